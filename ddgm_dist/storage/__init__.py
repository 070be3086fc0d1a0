"""Stores on disk: the tilt series going in, the OME-Zarr volume coming out, the record of a run."""
