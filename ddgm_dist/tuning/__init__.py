"""Choosing settings by cross-validation."""
