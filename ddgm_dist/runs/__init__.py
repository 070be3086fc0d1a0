"""From a call to a finished volume: problem, output, progress, event log."""
