"""Refuse names of stores that belong to another format."""

from __future__ import annotations

from pathlib import PurePosixPath

from ddgm_dist.errors import InputError

__all__ = ["check_store_name"]

# Other formats: of volumes, images, tables and packed files. A store of such a name is a folder that
# no program takes for what its name says.
_FOREIGN = {
    ".mrc", ".mrcs", ".rec", ".st", ".ali", ".map", ".preali", ".ccp4", ".em", ".hed", ".img",
    ".spi", ".vol", ".raw", ".dat", ".bin", ".tif", ".tiff", ".btf", ".png", ".jpg", ".jpeg",
    ".jp2", ".bmp", ".gif", ".webp", ".dm3", ".dm4", ".ser", ".emd", ".eer", ".h5", ".hdf",
    ".hdf5", ".nxs", ".nx", ".he5", ".n5", ".npy", ".npz", ".nii", ".nrrd", ".nhdr", ".mha",
    ".mhd", ".vtk", ".vti", ".am", ".czi", ".lif", ".nd2", ".ims", ".bdv", ".xml", ".json",
    ".yaml", ".yml", ".csv", ".txt", ".tlt", ".rawtlt", ".mdoc", ".pt", ".pth", ".ts",
    ".safetensors", ".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z",
}  # fmt: skip


def check_store_name(path: object, argument: str = "out") -> None:
    """Refuse a name that belongs to another format; ``name``, ``name.zarr`` and ``run_1.5`` are fine.

    Parameters
    ----------
    path
        Path or URL of a store that is to be made.
    argument
        Name of the argument, for messages.

    Raises
    ------
    InputError
        The name ends as files of another format do.
    """
    name = PurePosixPath(str(path)).name
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in _FOREIGN:
        stem = name[: -len(suffix)]
        raise InputError(
            argument,
            str(path),
            f"ends with {suffix}, but what is written is a Zarr store, which is a folder",
            f"name it {stem}.zarr",
        )
