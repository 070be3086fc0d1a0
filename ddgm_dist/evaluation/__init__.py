"""Scores of a volume against another, and its coarser levels."""
