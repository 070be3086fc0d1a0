"""Bulk reads and writes of one Zarr array through tensorstore, and the checks all stores share.

zarr-python creates arrays and their metadata; tensorstore moves the data. tensorstore aborts a
process that forks after using it, so the context is made on first use and never at import.
"""

from __future__ import annotations

import contextlib
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

from ddgm_dist.errors import DdgmError, InputError, StorageError
from ddgm_dist.paths.exchange import bring_back
from ddgm_dist.paths.files import exists, is_zarr, listdir, read_bytes
from ddgm_dist.paths.forks import used
from ddgm_dist.paths.free_space import obstacle
from ddgm_dist.paths.numcodecs_array import NumcodecsArray
from ddgm_dist.paths.object_store import kvstore_spec, strip_http_body
from ddgm_dist.paths.place import ObjectPath, Place

__all__ = [
    "LEASE",
    "NEXT",
    "SIDECAR",
    "BulkArray",
    "InputReplacedError",
    "is_claim",
    "is_empty_folder",
    "prepare_output",
    "refuse_unmovable",
    "write_error",
]

SIDECAR, LEASE, NEXT = "ddgm_dist", "lease.json", "next.json"
_UNKNOWN = "Error parsing object member"  # what tensorstore says of metadata that it does not know
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


def prepare_output(target: Place, argument: str, *, overwrite: bool) -> None:
    """Check that a new store can be made at a place; nothing is deleted.

    Nothing may exist there, unless it is a store that may be replaced, or what a writer leaves that was
    interrupted at once. Folders above it are made.

    Raises
    ------
    InputError
        Something exists there and ``overwrite`` is false, or it is not a Zarr store (which is
        never deleted), or cannot be renamed; or the folder above it cannot be written.
    StorageError
        An object store cannot be asked.
    """
    if isinstance(target, Path) and not target.exists():
        bring_back(target)  # somebody may have been killed since it was located
    if exists(target) and not is_claim(target):
        if not overwrite:
            raise InputError(
                argument, str(target), "exists already", "choose another name or overwrite it"
            )
        if not (is_zarr(target) or is_empty_folder(target)):
            raise InputError(
                argument, str(target), "is not a Zarr store, so it is not deleted to make room"
            )
    if isinstance(target, ObjectPath):
        return  # there are no folders to be made, and no permissions to be looked up
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            argument, str(target), f"its folder cannot be made ({error.strerror})"
        ) from error
    refuse_unmovable(target, argument)


def is_claim(place: Place) -> bool:
    """Whether there is nothing but what a writer leaves that was interrupted before it had written."""
    if listdir(place) != [SIDECAR]:
        return False
    # With the lock, and files that a killed writer had not given their names yet.
    left = {n for n in listdir(place / SIDECAR) if not n.startswith(".") and ".__lock" not in n}
    return left <= {LEASE, NEXT}


def refuse_unmovable(place: Path, argument: str) -> None:
    """Refuse a folder that cannot be renamed, so that no other can take its place.

    Raises
    ------
    InputError
        A file system is mounted there, or the folder above it is not writable.
    """
    if place.is_mount():
        raise InputError(
            argument,
            str(place),
            "is where a file system is mounted, so it cannot be replaced by renaming",
            "choose a name below it",
        )
    if not os.access(place.parent, os.W_OK):
        raise InputError(argument, str(place), "its folder is not writable")


def is_empty_folder(place: Place) -> bool:
    """Whether a place is a folder with nothing in it; object stores have none."""
    return isinstance(place, Path) and place.is_dir() and not listdir(place)


def write_error(place: Place, nbytes: int, error: Exception) -> StorageError:
    """The error for a write that failed: what was to be written where, and what is in the way."""
    if isinstance(place, ObjectPath):
        return StorageError(
            f"writing {nbytes} bytes to {place} failed; check the network, the bucket and the "
            f"credentials, then run again ({strip_http_body(error)})"
        )
    return StorageError(
        f"writing {nbytes} bytes to {place} failed; {obstacle(place, error)} ({error})"
    )


class InputReplacedError(DdgmError):
    """A store was replaced while it was being read: what is read is not what was opened."""

    exit_status = 2


def _stamp(path: Place) -> tuple[int, int] | None:
    """What tells an array on disk from one that has taken its place; None where that is not looked at.

    In object stores another array lies at another place (`ddgm_dist.records.replacement`).
    """
    if isinstance(path, ObjectPath):
        return None
    for name in ("zarr.json", ".zarray"):
        with contextlib.suppress(OSError):
            found = (path / name).stat()
            return (
                found.st_ino,
                found.st_mtime_ns,
            )  # a device gets another number when mounted again
    return 0, 0


class BulkArray:
    """A Zarr array opened in tensorstore, or through zarr-python where its codecs are others.

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
        self._opened: Any
        used()
        try:
            self._opened = ts.open(
                spec, open=True, read=True, write=writable, context=_context()
            ).result()
        except ValueError as error:
            # It knows fewer codecs than zarr-python, which has opened the array already.
            if writable or _UNKNOWN not in str(error):
                why = f"{path} cannot be opened by tensorstore: {strip_http_body(error)}"
                raise StorageError(why) from error
            self._opened = NumcodecsArray(array, path, complete=complete)
        # What is written to is leased, and is not replaced by others.
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
        """Whether what reads as never written was not deleted: its metadata are deleted first."""
        if block.dtype.kind != "f" or not np.isnan(block).any():
            return True
        return any(read_bytes(self.path / name) is not None for name in ("zarr.json", ".zarray"))

    def _check_current(self) -> None:
        """Make sure that what was read is of the array that was opened, and not of another one."""
        if self._stamp is not None and _stamp(self.path) != self._stamp:
            raise InputReplacedError(
                f"{self.path} has been replaced or deleted since it was opened, so what is read now "
                "may be of another; run the same command again"
            )

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
    return " ".join(strip_http_body(error).split())


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
