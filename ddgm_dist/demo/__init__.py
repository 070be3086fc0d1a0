"""The newcomer's first run."""
