"""The data in: a tilt series as a Zarr store, how it is written and read."""
