"""What a run is doing or has done, from its store alone."""
