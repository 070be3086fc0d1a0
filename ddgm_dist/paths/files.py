"""Whole small files, listings and deletions, on disks and in object stores.

Files go through the file system, objects through tensorstore. An object is written whole or not at
all, so it needs no temporary file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import tensorstore as ts

from ddgm_dist.errors import StorageError
from ddgm_dist.paths.atomic import replace_file
from ddgm_dist.paths.lock import locked
from ddgm_dist.paths.object_store import bucket_store, kvstore, list_keys, strip_http_body, wait_for
from ddgm_dist.paths.place import ObjectPath, Place

__all__ = [
    "compare_and_swap",
    "delete",
    "delete_folder",
    "exclusive",
    "exists",
    "files_below",
    "get_with_etag",
    "is_zarr",
    "listdir",
    "read_all",
    "read_bytes",
    "write_bytes",
]


def read_bytes(place: Place) -> bytes | None:
    """The content of a file; None if there is none.

    Raises
    ------
    OSError
        A file cannot be read; here and below.
    StorageError
        An object cannot be read; here and below.
    """
    if isinstance(place, Path):
        try:
            return place.read_bytes()
        except FileNotFoundError:
            return None
    return _value(place, bucket_store(place).read(place.key))


def read_all(places: Sequence[Place]) -> list[bytes | None]:
    """The content of many small files, objects in parallel; raises as `read_bytes` does."""
    asked = [p if isinstance(p, Path) else (p, bucket_store(p).read(p.key)) for p in places]
    return [read_bytes(p) if isinstance(p, Path) else _value(*p) for p in asked]


def _value(place: ObjectPath, future: Any) -> bytes | None:
    found = wait_for("reading", place, future)
    return bytes(found.value) if found.state == "value" else None


def write_bytes(place: Place, data: bytes) -> None:
    """Write a small file, durably and so that readers see all of it or nothing.

    Folders are made on the way. Raises as `read_bytes` does.
    """
    if isinstance(place, ObjectPath):
        wait_for(f"writing {len(data)} bytes to", place, bucket_store(place).write(place.key, data))
        return
    replace_file(place, data, shared=True)


def get_with_etag(place: Place) -> tuple[bytes | None, bytes]:
    """The content of a file, or None, and a stamp that changes with every write.

    Raises as `read_bytes` does.
    """
    store, key = _conditional(place)
    found = _asked("reading", place, store.read(key))
    return bytes(found.value) if found.state == "value" else None, found.stamp.generation


def compare_and_swap(place: Place, data: bytes, stamp: bytes) -> bool:
    """Write as `write_bytes` does if the file still has this stamp; returns whether it had.

    A server whose first answer was lost may have written and yet report that it has not: read again.
    """
    store, key = _conditional(place)
    doing = f"writing {len(data)} bytes to"
    with exclusive(place):
        written = _asked(doing, place, store.write(key, data, if_equal=stamp))
    return bool(written.generation)


def exclusive(place: Place) -> AbstractContextManager[None]:
    """Exclude other processes between reading a file and replacing it; servers do so by themselves.

    Raises as :func:`ddgm_dist.paths.lock.locked` does.
    """
    return contextlib.nullcontext() if isinstance(place, ObjectPath) else locked(place.parent)


def _conditional(place: Place) -> tuple[ts.KvStore, str]:
    """The store in which a file can be replaced conditionally, and its key there."""
    if isinstance(place, Path):
        return kvstore(place.parent), place.name
    return bucket_store(place), place.key


def _asked(doing: str, place: Place, future: Any) -> Any:
    """The result of a request about a file or an object."""
    if isinstance(place, ObjectPath):
        return wait_for(doing, place, future)
    try:
        return future.result()
    except ValueError as error:  # tensorstore raises it for errors of files
        raise OSError(strip_http_body(error)) from None


def exists(place: Place) -> bool:
    """Return whether a file or a folder exists at a place."""
    if isinstance(place, Path):
        return place.exists()
    return is_zarr(place) or read_bytes(place) is not None or bool(list_keys(place))


def is_zarr(place: Place) -> bool:
    """Return whether a folder carries Zarr metadata (version 2 or 3)."""
    files = [place / name for name in ("zarr.json", ".zgroup", ".zarray")]
    return any(f.is_file() if isinstance(f, Path) else read_bytes(f) is not None for f in files)


def listdir(place: Place) -> list[str]:
    """Names of the files and folders in a folder, sorted; empty if it does not exist."""
    if isinstance(place, Path):
        return sorted(name for (name,) in _walk(str(place), 1))
    return sorted({key.partition("/")[0] for key in list_keys(place)})


def files_below(place: Place, depth: int) -> list[tuple[str, ...]]:
    """Relative paths, split into parts, of all files and folders ``depth`` levels below a folder."""
    if isinstance(place, Path):
        return list(_walk(str(place), depth))
    parts = [tuple(key.split("/")) for key in list_keys(place)]
    return [part for part in parts if len(part) == depth]


def _walk(folder: str, depth: int) -> Iterator[tuple[str, ...]]:
    """As `files_below`, without a Path object for each entry: there may be millions."""
    try:
        found = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with found as entries:
        for entry in entries:
            if depth == 1:
                yield (entry.name,)
            else:
                for parts in _walk(entry.path, depth - 1):
                    yield (entry.name, *parts)


def delete(place: Place) -> None:
    """Delete a file, if it exists."""
    if isinstance(place, Path):
        place.unlink(missing_ok=True)
    else:
        wait_for("deleting", place, bucket_store(place).write(place.key, None))


def delete_folder(place: Place, *, ignore_errors: bool = False) -> None:
    """Delete a folder and its content, if it exists; with ``ignore_errors`` as far as possible."""
    if isinstance(place, Path):
        if place.exists():
            shutil.rmtree(place, ignore_errors)
        return
    prefix = f"{place.key}/".encode()
    within = ts.KvStore.KeyRange(prefix, prefix[:-1] + b"0")
    with contextlib.suppress(*[StorageError] * ignore_errors):
        wait_for("deleting what is in", place, bucket_store(place).delete_range(within))
