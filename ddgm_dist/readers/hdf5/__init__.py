"""Tilt series and volumes in HDF5 files."""
