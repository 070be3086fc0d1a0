"""Tilt series and volumes in Zarr stores."""
