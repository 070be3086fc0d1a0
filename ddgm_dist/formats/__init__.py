"""Readers of other people's files: NumPy, MRC, image folders, Zarr volumes."""
