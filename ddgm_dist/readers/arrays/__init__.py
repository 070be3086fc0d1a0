"""Arrays of NumPy and dask as volumes and stacks."""
