"""Dark and flat fields as arrays in NumPy archives, HDF5 files and Zarr stores.

There they may be single images, or lie beside projections. An image key says which frames they are;
else see `ddgm_dist.acquisition.reference_choice`.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.acquisition.reference_choice import FieldArray, choose_field, fields_by_name
from ddgm_dist.acquisition.sources import open_source
from ddgm_dist.errors import InputError
from ddgm_dist.paths.files import is_zarr
from ddgm_dist.readers.arrays.npy_header import npy_header
from ddgm_dist.readers.base import ArrayVolume, VolumeSource
from ddgm_dist.readers.stacks.names import KEY_NAMES

__all__ = ["find_reference_array"]

_HDF5 = (".h5", ".hdf5", ".hdf", ".nxs", ".nx", ".he5")
# Groups within groups that are looked at.
_DEEP = 8


def find_reference_array(place: Path, size: tuple[int, int], argument: str) -> VolumeSource | None:
    """The images of a dark or flat field in a file that may hold several arrays.

    Parameters
    ----------
    place
        A ``.npz`` archive, an HDF5 file or a Zarr store.
    size
        Rows and columns of the images that it belongs to.
    argument
        ``dark`` or ``flat``: which of them is wanted.

    Returns
    -------
    VolumeSource or None
        Images ``(image, row, column)``. None if it is another kind of file, or no array of it may be
        an image: then it is read as a stack.

    Raises
    ------
    InputError
        The file cannot be read, it has several such arrays, or only images of another size.
    """
    keyed = _keyed(place, argument)
    if keyed is not None and f"{argument}s" in keyed:
        return keyed[f"{argument}s"]
    with _arrays(place, argument) as found:
        lists = [a.path for a in found if a.name in KEY_NAMES and len(a.shape) == 1]
        if (keyed is not None or lists) and not fields_by_name(found, argument):
            raise InputError(
                argument,
                str(place),
                f"holds no {argument} frames by its image key"
                if keyed is not None
                else f"has an image key, {lists[0]}, which is read in HDF5 files only",
                f"give the {argument} frames in a file of their own",
            )
        chosen = choose_field(found, place, size, argument)
        if chosen is None:
            return None
        if len(chosen.shape) == 2:
            return ArrayVolume(chosen.load()[None], f"{place}:{chosen.path}")
    # Read frame by frame: there may be many.
    return open_source(place, chosen.path or None, angles=False).stack


def _keyed(place: Path, argument: str) -> Mapping[str, VolumeSource] | None:
    """The images of each kind by the image key of an HDF5 file; None where there is no key."""
    if is_zarr(place) or place.suffix.lower() not in _HDF5:
        return None
    from ddgm_dist.readers.hdf5.stack import open_keyed  # h5py is loaded only where it is needed

    try:
        return open_keyed(place)
    except InputError as error:
        hint = "" if "--dataset" in error.hint else error.hint
        raise InputError(argument, str(place), error.why, hint) from error


@contextmanager
def _arrays(place: Path, argument: str) -> Iterator[list[FieldArray]]:
    """All arrays of real numbers in a file that is open meanwhile; none of other kinds of files."""
    if is_zarr(place):
        yield _in_zarr(place, argument)
    elif place.suffix.lower() == ".npz":
        with zipfile.ZipFile(place) as archive:
            yield _in_npz(archive)
    elif place.suffix.lower() in _HDF5:
        from ddgm_dist.readers.hdf5.file import open_h5  # h5py is loaded only where it is needed

        with open_h5(place, argument) as file:
            yield _in_hdf5(file, f"{place}")
    else:
        yield []


def _in_npz(archive: zipfile.ZipFile) -> list[FieldArray]:
    def load(info: zipfile.ZipInfo) -> NDArray[Any]:
        with archive.open(info) as file:
            array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
            file.read()  # the checksum is looked at when the end is reached
        return array

    found = list[FieldArray]()
    for info in archive.infolist():
        with archive.open(info) as file:
            header = npy_header(file)
        if header.dtype.kind in "fiu":
            name = info.filename.removesuffix(".npy")
            found.append(FieldArray(name, header.shape, header.dtype.kind, partial(load, info)))
    return found


def _in_hdf5(file: Any, name: str) -> list[FieldArray]:
    from ddgm_dist.readers.hdf5.filters import load_filters
    from ddgm_dist.readers.hdf5.tree import read_tree, unique

    def load(path: str) -> NDArray[Any]:
        load_filters(file[path], f"{name}:{path}")
        try:
            return np.asarray(file[path][()])
        except Exception as error:  # h5py and its filters raise many types
            raise OSError(f"{path}: {error}") from error

    nodes = [n for n in read_tree(file).nodes.values() if n.shape and n.kind in "fiu"]
    return [FieldArray(n.path, n.shape or (), n.kind, partial(load, n.path)) for n in unique(nodes)]


def _in_zarr(place: Path, argument: str) -> list[FieldArray]:
    import zarr

    from ddgm_dist.readers.zarr.volume import open_node

    def load(array: zarr.Array[Any]) -> NDArray[Any]:
        try:
            return np.asarray(array[...])
        except Exception as error:  # codecs and stores raise their own types
            raise InputError(
                argument, str(place), f"{array.path} cannot be read ({error})"
            ) from error

    node = open_node(place, argument)
    if isinstance(node, zarr.Array):
        members: list[tuple[str, Any]] = [("", node)]
    else:
        members = _members(node, place, argument)
    return [
        FieldArray(path, array.shape, np.dtype(array.dtype).kind, partial(load, array))
        for path, array in members
        if isinstance(array, zarr.Array)
        and np.dtype(array.dtype).kind in "fiu"
        and 0 not in array.shape
    ]


def _members(group: Any, place: Path, argument: str) -> list[tuple[str, Any]]:
    """Arrays and groups of a group, by their paths."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that are no part of the store
            return sorted(group.members(max_depth=_DEEP), key=lambda member: str(member[0]))
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(argument, str(place), f"is damaged ({error})") from error
