"""Find the files and stores that an array or a volume source reads."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from ddgm_dist.paths.place import Place
from ddgm_dist.paths.zarr_store import ObjectZarr
from ddgm_dist.readers.arrays.dask_arrays import is_dask_array

__all__ = ["places_of"]

# Most levels of nested readers: a dask array of a view of a store.
_DEEP = 4


def places_of(volume: object) -> list[Place]:
    """Files and stores that a volume is read from, so that no output overwrites them.

    Parameters
    ----------
    volume
        A place; an array of numpy, zarr or dask; or a volume source, whose attributes are
        looked at.

    Returns
    -------
    list
        Places; empty for arrays in memory, and for sources that do not show theirs.
    """
    if isinstance(volume, Place):
        return [volume]
    found = dict.fromkeys(_found(volume, _DEEP))
    return [place.resolve() if isinstance(place, Path) else place for place in found]


def _found(value: object, depth: int) -> Iterable[Place]:
    if depth == 0 or value is None:
        return
    if isinstance(value, Place):
        yield value
    elif isinstance(value, np.ndarray):
        yield from _mapped(value)
    elif isinstance(value, zarr.Array):
        yield from _stored(value.store, value.path)
    elif is_dask_array(value):
        for part in _sources(value):
            yield from _found(part, depth - 1)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _found(part, depth - 1)
    elif hasattr(value, "__dict__"):
        for part in vars(value).values():
            yield from _found(part, depth - 1)


def _mapped(array: np.ndarray[Any, Any]) -> Iterable[Path]:
    """The file that an array, or what it is a view of, is mapped from."""
    base: object = array
    while base is not None and not isinstance(base, mmap.mmap):
        name = getattr(base, "filename", None)
        if isinstance(name, str | Path):
            yield Path(name)
            return
        base = getattr(base, "base", None)


def _stored(store: object, path: str) -> Iterable[Place]:
    """The store that an array of zarr-python lies in, and the array itself."""
    root: Any = store.place if isinstance(store, ObjectZarr) else getattr(store, "root", None)
    if root is None:  # of fsspec
        root = getattr(store, "path", None)
    if isinstance(root, str):
        root = Path(root)
    if isinstance(root, Place):
        yield root
        if path:
            yield root / path


def _sources(array: Any) -> Iterable[object]:
    """Sources of a dask array: the values of its graph under names, not numbers."""
    graph = array.__dask_graph__()
    for key in graph:
        if isinstance(key, str):
            value = graph[key]
            yield getattr(value, "value", value)
