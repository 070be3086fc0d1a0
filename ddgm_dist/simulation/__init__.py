"""Simulated tilt series of a known volume: projector, detector, phantoms."""
