"""Status, events and results of a run, read from its store alone."""
