"""IMOD's command files, transforms and lists of views."""
