"""Volumes as OME-Zarr stores, in shards and levels."""
