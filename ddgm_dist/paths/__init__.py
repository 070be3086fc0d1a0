"""Places, given by a path or a URL, and reading and writing files and arrays there."""
