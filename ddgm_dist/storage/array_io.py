"""Bulk reads and writes of one Zarr array through tensorstore, and the checks all stores share.

zarr-python creates arrays and their metadata; tensorstore moves the data. tensorstore aborts a
process that forks after using it, so the context is made on first use and never at import.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
import zarr
from numpy.typing import NDArray

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.location import (
    ObjectPath,
    Place,
    delete_folder,
    exists,
    is_zarr,
    kvstore_spec,
    locate,
    names,
    plain,
)
from ddgm_dist.storage.room import obstacle

__all__ = ["BulkArray", "as_float32", "is_empty_folder", "prepare_output", "write_error"]

_CACHE_BYTES = 128 * 2**20  # the default, 0, re-reads the shard index for every inner chunk


@functools.cache
def _context() -> ts.Context:
    """One bounded context per process: several workers share a node."""
    cores = len(os.sched_getaffinity(0))
    return ts.Context(
        {
            "cache_pool": {"total_bytes_limit": _CACHE_BYTES},
            "data_copy_concurrency": {"limit": cores},
            "file_io_concurrency": {"limit": max(4, cores)},
        }
    )


def prepare_output(path: str | Path | ObjectPath, argument: str, *, overwrite: bool) -> Place:
    """Make room for a new store: nothing may exist at ``path``, unless it is a store to replace.

    Raises
    ------
    InputError
        Something exists there and ``overwrite`` is false, or it is not a Zarr store (which is
        never deleted), or the folder above it cannot be written.
    StorageError
        An object store cannot be asked.
    """
    target = locate(path, argument)
    if exists(target):
        if not overwrite:
            raise InputError(
                argument, str(path), "exists already", "choose another name or overwrite it"
            )
        if not (is_zarr(target) or is_empty_folder(target)):
            raise InputError(
                argument, str(path), "is not a Zarr store, so it is not deleted to make room"
            )
        delete_folder(target)
    if isinstance(target, ObjectPath):
        return target  # there are no folders to be made, and no permissions to be looked up
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            argument, str(path), f"its folder cannot be made ({error.strerror})"
        ) from error
    if not os.access(target.parent, os.W_OK):
        raise InputError(argument, str(path), "its folder is not writable")
    return target


def is_empty_folder(place: Place) -> bool:
    """Whether a place is a folder with nothing in it; object stores have none."""
    return isinstance(place, Path) and place.is_dir() and not names(place)


def write_error(place: Place, nbytes: int, error: Exception) -> StorageError:
    """The error for a write that failed: what was to be written where, and what is in the way."""
    if isinstance(place, ObjectPath):
        return StorageError(
            f"writing {nbytes} bytes to {place} failed; check the network, the bucket and the "
            f"credentials, then run again ({plain(error)})"
        )
    return StorageError(
        f"writing {nbytes} bytes to {place} failed; {obstacle(place, error)} ({error})"
    )


class BulkArray:
    """A Zarr array opened in tensorstore.

    Parameters
    ----------
    array
        The same array as zarr-python sees it.
    path
        Where it lies.
    writable
        Whether writes are allowed.
    axes
        What the axes count, for messages.
    complete
        Every chunk must be there: one that is not is an error when it is read, not fill values.
    """

    def __init__(
        self,
        array: zarr.Array[Any],
        path: Place,
        *,
        writable: bool = False,
        axes: tuple[str, str, str] = ("z", "y", "x"),
        complete: bool = False,
    ) -> None:
        self.path, self.axes = path, axes
        self._chunk: tuple[int, ...] = array.chunks
        spec: dict[str, Any] = {
            "driver": "zarr3" if array.metadata.zarr_format == 3 else "zarr",
            "kvstore": kvstore_spec(path),
            # Otherwise a shard equal to the fill value is deleted, and a finished shard
            # could not be told from a missing one.
            "store_data_equal_to_fill_value": True,
            "fill_missing_data_reads": not complete,
        }
        try:
            self._store = ts.open(
                spec, open=True, read=True, write=writable, context=_context()
            ).result()
        except ValueError as error:
            raise StorageError(f"{path} cannot be opened by tensorstore: {plain(error)}") from error

    def read(self, slices: tuple[slice, slice, slice]) -> NDArray[Any]:
        """Read a block in the stored dtype.

        Raises
        ------
        IndexError
            A slice reaches outside the array (a shorter block would be silently misplaced).
        StorageError
            Chunks are damaged or unreadable, or missing where all must be there.
        """
        index = _checked(slices, self._store.shape)
        return self._result(index, self._store[index].read())

    def read_each(
        self, parts: Sequence[tuple[slice, slice, slice]], *, in_flight: int
    ) -> Iterator[NDArray[Any]]:
        """Read several blocks, in order, with ``in_flight`` of them on their way at a time.

        Raises as :meth:`read` does.
        """
        indices = [_checked(slices, self._store.shape) for slices in parts]
        waiting: deque[tuple[tuple[slice, ...], Any]] = deque()
        for index in indices:
            waiting.append((index, self._store[index].read()))
            if len(waiting) >= in_flight:
                yield self._result(*waiting.popleft())
        while waiting:
            yield self._result(*waiting.popleft())

    def _result(self, index: tuple[slice, ...], future: Any) -> NDArray[Any]:
        try:
            block: NDArray[Any] = future.result()
        except (ValueError, OSError) as error:
            raise self._read_error(index, error) from error
        return block

    def _read_error(self, index: tuple[slice, ...], error: Exception) -> StorageError:
        """The error of a read that failed, with the place of the chunks that are at fault."""
        faulty = self._faulty(index)
        first = next(faulty, None)
        if first is None:  # what failed a moment ago does not now
            where = _place(self.axes, index)
            return StorageError(f"reading {where} of {self.path} failed: {_one_line(error)}")
        key, part, reason = first
        # Over a network each would be asked for again and again before it is given up.
        others = 0 if isinstance(self.path, ObjectPath) else sum(1 for _ in faulty)
        more = f"; the same goes for {others} more of the chunks read" if others else ""
        missing = reason.startswith("NOT_FOUND")
        hint = "put a good copy in its place"
        if missing:
            hint += "; or, if it was left out because it holds nothing but the fill value, write it"
        return StorageError(
            f"chunk {key} of {self.path} is {'missing' if missing else 'unreadable'}: "
            f"{_place(self.axes, part)}; {hint} ({reason}){more}"
        )

    def _faulty(
        self, index: tuple[slice, ...]
    ) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...], str]]:
        """Chunks in a block that cannot be read: number along each axis, place, reason."""
        chunk, shape = self._chunk, self._store.shape
        ranges = [
            range(part.start // size, -(-part.stop // size))
            for part, size in zip(index, chunk, strict=True)
        ]
        for key in itertools.product(*ranges):
            part = tuple(
                slice(k * size, min((k + 1) * size, extent))
                for k, size, extent in zip(key, chunk, shape, strict=True)
            )
            try:
                self._store[part].read().result()
            except (ValueError, OSError) as error:
                yield key, part, _one_line(error)

    def write(self, slices: tuple[slice, slice, slice], block: NDArray[Any]) -> None:
        """Write a block; returns once it is on disk.

        Raises
        ------
        IndexError
            A slice reaches outside the array.
        StorageError
            The write failed, for example because the disk is full.
        """
        index = _checked(slices, self._store.shape)
        try:
            self._store[index].write(block).result()
        except (ValueError, OSError) as error:
            raise write_error(self.path, block.nbytes, error) from error


def _place(axes: tuple[str, ...], part: tuple[slice, ...]) -> str:
    """A block in words: first and last index along each axis."""
    return ", ".join(
        f"{axis} {p.start} to {p.stop - 1}" for axis, p in zip(axes, part, strict=True)
    )


def _one_line(error: Exception) -> str:
    return " ".join(plain(error).split())


def _checked(slices: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The slices with explicit bounds, each within the array and of step one."""
    out = []
    for axis, (part, extent) in enumerate(zip(slices, shape, strict=True)):
        start = 0 if part.start is None else int(part.start)
        stop = extent if part.stop is None else int(part.stop)
        if not 0 <= start <= stop <= extent or part.step not in (None, 1):
            raise IndexError(f"slice {part} of axis {axis} is not within 0..{extent}, step 1")
        out.append(slice(start, stop))
    return tuple(out)


def as_float32(block: NDArray[Any]) -> NDArray[np.float32]:
    """A fresh, writable, contiguous float32 array with the block's values."""
    return np.array(block, dtype=np.float32, order="C", copy=True)
