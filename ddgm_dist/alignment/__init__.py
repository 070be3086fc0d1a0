"""Estimates of shifts, tilt axis and angle offset, from the tilt series itself."""
