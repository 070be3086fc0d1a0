"""Comparison of a volume with another one, and its coarser levels."""
