"""Tilt series of a known volume: projector, detector, phantoms."""
