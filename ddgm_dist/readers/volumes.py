"""Open any supported volume for lazy reading: Zarr, MRC, image folder or ``.npy``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zarr

from ddgm_dist.errors import InputError
from ddgm_dist.paths.files import is_zarr
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.place import Place
from ddgm_dist.paths.safety import inner_name
from ddgm_dist.readers.arrays.numpy_files import open_npy
from ddgm_dist.readers.base import VolumeSource
from ddgm_dist.readers.images.stack import TIFF_SUFFIXES, open_images, open_tiff
from ddgm_dist.readers.mrc.volume import MRC_SUFFIXES, open_mrc
from ddgm_dist.readers.zarr.volume import ZarrVolume, level_zero, open_node

__all__ = ["VolumeSource", "ZarrVolume", "open_volume", "open_volume_at", "open_zarr"]


def open_volume(path: str | Path) -> VolumeSource:
    """Open a volume ``(z, y, x)`` by its path or URL; nothing is read but headers.

    It may be a Zarr array, a ``.npy`` file, an MRC file or a TIFF file of several pages. Of a Zarr
    group, level 0 of the OME-Zarr image or the only 3-D array is read. A folder of PNG or TIFF images
    has one per z, in the order of their names. In object stores only Zarr is read.

    Raises
    ------
    InputError
        Nothing is there, or it is none of these, or it is not a stack of real numbers.
    StorageError
        The object store does not answer.
    """
    return open_volume_at(locate(path, "volume"))


def open_volume_at(place: Place) -> VolumeSource:
    """Open a volume as `open_volume` does, by its place."""
    if not isinstance(place, Path):
        if is_zarr(place):
            return open_zarr(place)
        raise InputError(
            "volume", str(place), "is not a Zarr store", "other files are read from a disk"
        )
    if not place.exists():
        raise InputError("volume", str(place), "does not exist")
    if place.is_dir():
        if is_zarr(place):
            return open_zarr(place)
        return open_images(place)
    if place.suffix.lower() in MRC_SUFFIXES:
        return open_mrc(place)
    if place.suffix.lower() in TIFF_SUFFIXES:
        return open_tiff(place)
    if place.suffix.lower() == ".npy":
        return open_npy(place)
    raise InputError(
        "volume",
        str(place),
        "is not a Zarr store, an MRC file, a folder of PNG or TIFF images, a TIFF or a .npy file",
    )


def open_zarr(place: Place) -> ZarrVolume:
    """Open a Zarr array, level 0 of an OME-Zarr image (0.4 or 0.5), or a group's only 3-D array.

    Raises
    ------
    InputError
        The store is damaged, holds a tilt series, or it is not clear which array is the volume;
        or it leads out of itself.
    """
    node = open_node(place, "volume")
    if isinstance(node, zarr.Array):
        return ZarrVolume(node, str(place))
    attributes: dict[str, Any] = node.attrs.asdict()
    ours = attributes.get("ddgm_dist")
    if isinstance(ours, dict) and ours.get("kind") == "tilt-series":
        raise InputError("volume", str(place), "is a tilt series, not a volume")
    level = level_zero(attributes)
    name = _only_stack(node, str(place)) if level is None else inner_name(level, "volume", place)
    try:
        array = node[name]
    except KeyError as error:
        raise InputError(
            "volume", str(place), f"its metadata name a level {name!r} that is not there"
        ) from error
    if not isinstance(array, zarr.Array):
        raise InputError("volume", str(place), f"its level {name!r} is not an array")
    return ZarrVolume(array, f"{place}/{name}")


def _only_stack(group: zarr.Group, path: str) -> str:
    stacks = [name for name, array in group.arrays() if array.ndim >= 3]
    if len(stacks) != 1:
        raise InputError(
            "volume",
            path,
            f"is a group without OME-Zarr metadata and with {len(stacks)} arrays of three axes",
            "give the path of the array itself",
        )
    return stacks[0]
