"""Bulk reads and writes of one Zarr array through tensorstore.

zarr-python creates arrays and their metadata; tensorstore moves the data. A process that forks after
using tensorstore is aborted, so the context is made on first use and never at import.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorstore as ts
import zarr
from numpy.typing import NDArray

from ddgm_dist.errors import DdgmError, StorageError
from ddgm_dist.paths.files import read_bytes
from ddgm_dist.paths.forks import used
from ddgm_dist.paths.free_space import write_error
from ddgm_dist.paths.numcodecs_array import NumcodecsArray
from ddgm_dist.paths.object_store import kvstore_spec, strip_http_body
from ddgm_dist.paths.place import ObjectPath, Place

__all__ = ["BulkArray", "InputReplacedError"]

_UNKNOWN = "Error parsing object member"  # begins tensorstore's error for metadata it does not know
_CACHE_BYTES = 128 * 2**20  # the default, 0, re-reads the shard index for every inner chunk


@functools.cache
def _context(one_core: bool) -> ts.Context:
    """One bounded context per process: several workers share a node."""
    cores = 1 if one_core else len(os.sched_getaffinity(0))
    return ts.Context(
        {
            "cache_pool": {"total_bytes_limit": 0 if one_core else _CACHE_BYTES},
            "data_copy_concurrency": {"limit": cores},
            "file_io_concurrency": {"limit": max(4, cores)},
        }
    )


class InputReplacedError(DdgmError):
    """A store was replaced by another one while it was being read."""

    exit_status = 2


def _stamp(path: Place) -> tuple[int, int] | None:
    """Inode and time of an array's metadata, which differ from those of an array that takes its place.

    None in object stores: there another array lies at another place (`ddgm_dist.records.replacement`).
    """
    if isinstance(path, ObjectPath):
        return None
    for name in ("zarr.json", ".zarray"):
        with contextlib.suppress(OSError):
            found = (path / name).stat()
            # Not the device: it gets another number when it is mounted again.
            return found.st_ino, found.st_mtime_ns
    return 0, 0


class BulkArray:
    """A Zarr array opened in tensorstore, or through zarr-python where tensorstore lacks its codecs.

    Parameters
    ----------
    array
        The same array, opened by zarr-python.
    path
        Place of the array.
    writable
        Whether writes are allowed.
    axes
        Names of the axes, for messages.
    complete
        Whether a chunk that is missing is an error when it is read; else it reads as fill values.
    one_core
        Whether chunks are encoded and decoded one after the other, and none is kept in memory: for
        one of several workers, which handles whole chunks.
    """

    def __init__(
        self,
        array: zarr.Array[Any],
        path: Place,
        *,
        writable: bool = False,
        axes: tuple[str, str, str] = ("z", "y", "x"),
        complete: bool = False,
        one_core: bool = False,
    ) -> None:
        self.path, self.axes = path, axes
        self._chunk: tuple[int, ...] = array.chunks
        spec: dict[str, Any] = {
            "driver": "zarr3" if array.metadata.zarr_format == 3 else "zarr",
            "kvstore": kvstore_spec(path),
            # Otherwise tensorstore deletes a shard equal to the fill value, and a finished shard
            # looks like a missing one.
            "store_data_equal_to_fill_value": True,
            "fill_missing_data_reads": not complete,
        }
        self._opened: Any
        used()
        try:
            self._opened = ts.open(
                spec, open=True, read=True, write=writable, context=_context(one_core)
            ).result()
        except ValueError as error:
            # tensorstore knows fewer codecs than zarr-python, which has opened the array already.
            if writable or _UNKNOWN not in str(error):
                why = f"{path} cannot be opened by tensorstore: {strip_http_body(error)}"
                raise StorageError(why) from error
            self._opened = NumcodecsArray(array, path, complete=complete)
        # An array that is written to is leased, so no other process replaces it.
        self._stamp = None if writable else _stamp(path)

    @property
    def _store(self) -> Any:
        used()  # it may have been opened before a fork
        return self._opened

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
        """Read several blocks, in order, with up to ``in_flight`` requests open at a time.

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
            self._check_current()
            raise self._read_error(index, error) from error
        self._check_current()
        if isinstance(self.path, ObjectPath) and not self._is_there(block):
            raise InputReplacedError(
                f"{self.path} has been replaced or deleted since it was opened; run the same "
                "command again"
            )
        return block

    def _is_there(self, block: NDArray[Any]) -> bool:
        """Look up whether the array still exists, if a block holds NaN.

        NaN may mean that the array was deleted: its metadata are deleted first.
        """
        if block.dtype.kind != "f" or not np.isnan(block).any():
            return True
        return any(read_bytes(self.path / name) is not None for name in ("zarr.json", ".zarray"))

    def _check_current(self) -> None:
        """Raise an error if another array has taken the place of the one that was opened."""
        if self._stamp is not None and _stamp(self.path) != self._stamp:
            raise InputReplacedError(
                f"{self.path} has been replaced or deleted since it was opened, so what is read now "
                "may be of another; run the same command again"
            )

    def _read_error(self, index: tuple[slice, ...], error: Exception) -> StorageError:
        """The error of a read that failed; it names the first chunk that cannot be read."""
        faulty = self._faulty(index)
        first = next(faulty, None)
        if first is None:  # a second attempt succeeded
            where = _place(self.axes, index)
            return StorageError(f"reading {where} of {self.path} failed: {_one_line(error)}")
        key, part, reason = first
        # Over a network the retries for each chunk would take long.
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
        """Chunks of a block that cannot be read: index, slices and reason of each."""
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
    """First and last index of a block along each axis, as text."""
    return ", ".join(
        f"{axis} {p.start} to {p.stop - 1}" for axis, p in zip(axes, part, strict=True)
    )


def _one_line(error: Exception) -> str:
    return " ".join(strip_http_body(error).split())


def _checked(slices: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The slices with explicit bounds; IndexError unless each is within the array and of step one."""
    out = []
    for axis, (part, extent) in enumerate(zip(slices, shape, strict=True)):
        start = 0 if part.start is None else int(part.start)
        stop = extent if part.stop is None else int(part.stop)
        if not 0 <= start <= stop <= extent or part.step not in (None, 1):
            raise IndexError(f"slice {part} of axis {axis} is not within 0..{extent}, step 1")
        out.append(slice(start, stop))
    return tuple(out)
