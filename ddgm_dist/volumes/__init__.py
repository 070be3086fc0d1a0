"""The result: a volume as an OME-Zarr store, in shards and levels."""
