"""Dark and flat fields as arrays in NumPy archives, HDF5 files and Zarr stores.

There they may be single images, or lie beside projections. An array with the name of such a field goes
first; else it must be the only image of the right size.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.acquisition.sources import open_source
from ddgm_dist.errors import InputError
from ddgm_dist.paths.files import is_zarr
from ddgm_dist.readers.arrays.npy_header import npy_header
from ddgm_dist.readers.base import ArrayVolume, VolumeSource
from ddgm_dist.readers.stacks.names import DARK_NAMES, FLAT_NAMES

__all__ = ["find_reference_array"]

_NAMES = {"dark": DARK_NAMES, "flat": FLAT_NAMES}
_HDF5 = (".h5", ".hdf5", ".hdf", ".nxs", ".nx", ".he5")
# Arrays that a message names.
_SHOWN = 5
# Groups within groups that are looked at.
_DEEP = 8


@dataclass(frozen=True)
class _Array:
    """An array of real numbers: its path in the file, its shape, and how it is loaded."""

    path: str
    shape: tuple[int, ...]
    load: Callable[[], NDArray[Any]]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2].lower()


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
        Images ``(image, row, column)``. None if it is another kind of file, or has neither a single
        image nor an array of that name: then it is read as a stack.

    Raises
    ------
    InputError
        The file cannot be read, it has several such arrays, or only images of another size.
    """
    with _arrays(place, argument) as found:
        chosen = _choose(found, place, size, argument)
        if chosen is None:
            return None
        if len(chosen.shape) == 2:
            return ArrayVolume(chosen.load()[None], f"{place}:{chosen.path}")
    # Read frame by frame: there may be many.
    return open_source(place, chosen.path or None, angles=False).stack


def _choose(
    found: Sequence[_Array], place: Path, size: tuple[int, int], argument: str
) -> _Array | None:
    """The array that holds the field; see `find_reference_array`."""
    other = _NAMES["flat" if argument == "dark" else "dark"]
    named = [a for a in found if a.name in _NAMES[argument] and len(a.shape) in (2, 3)]
    single = [a for a in found if len(a.shape) == 2 and min(a.shape) > 1]
    mine = named or [a for a in single if a.name not in other]
    fitting = [a for a in mine if a.shape[-2:] == size]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InputError(
            argument,
            str(place),
            f"holds {len(fitting)} arrays that may be meant: {_paths(fitting)}",
            f"name one of them {argument!r}, or give it in a file of its own",
        )
    # Beside a field of the other kind lie projections, and no field of this one.
    others = [a for a in found if a.name in other]
    is_stack = not mine or any(len(a.shape) == 3 for a in found)
    if not named and not others and is_stack:
        return None
    if mine:
        shapes = ", ".join(f"{a.path} of {a.shape[-2:]}" for a in mine[:_SHOWN])
        raise InputError(
            argument, str(place), f"holds images {shapes}, and the source of {size} pixels"
        )
    raise InputError(
        argument,
        str(place),
        f"holds {_paths(others)}, and nothing by the name of a {argument} field",
        f"name it {argument!r}, or give it in a file of its own",
    )


def _paths(arrays: Sequence[_Array]) -> str:
    more = ", ..." if len(arrays) > _SHOWN else ""
    return ", ".join(a.path for a in arrays[:_SHOWN]) + more


@contextmanager
def _arrays(place: Path, argument: str) -> Iterator[list[_Array]]:
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


def _in_npz(archive: zipfile.ZipFile) -> list[_Array]:
    def load(info: zipfile.ZipInfo) -> NDArray[Any]:
        with archive.open(info) as file:
            array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
            file.read()  # the checksum is looked at when the end is reached
        return array

    found = list[_Array]()
    for info in archive.infolist():
        with archive.open(info) as file:
            header = npy_header(file)
        if header.dtype.kind in "fiu":
            name = info.filename.removesuffix(".npy")
            found.append(_Array(name, header.shape, partial(load, info)))
    return found


def _in_hdf5(file: Any, name: str) -> list[_Array]:
    from ddgm_dist.readers.hdf5.filters import load_filters
    from ddgm_dist.readers.hdf5.tree import read_tree, unique

    def load(path: str) -> NDArray[Any]:
        load_filters(file[path], f"{name}:{path}")
        try:
            return np.asarray(file[path][()])
        except Exception as error:  # h5py and its filters raise many types
            raise OSError(f"{path}: {error}") from error

    nodes = [n for n in read_tree(file).nodes.values() if n.shape and n.kind in "fiu"]
    return [_Array(n.path, n.shape or (), partial(load, n.path)) for n in unique(nodes)]


def _in_zarr(place: Path, argument: str) -> list[_Array]:
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
        _Array(path, array.shape, partial(load, array))
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
