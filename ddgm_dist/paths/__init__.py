"""Where things lie: a path or a URL, and what is read and written there."""
