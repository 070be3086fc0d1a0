"""Pixels of a tilt series that are no measurement: detection, masks and findings."""
