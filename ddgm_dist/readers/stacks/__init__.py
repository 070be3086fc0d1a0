"""Parts that tilt series in HDF5 and in Zarr share: their axes, names, and the stack itself."""
