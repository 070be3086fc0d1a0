"""The state of a source's files, by which a change of it is noticed."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["source_states"]

_log = logging.getLogger("ddgm_dist")


def source_states(paths: Iterable[Path], name: str) -> str | None:
    """Digest of the sizes and times of all files, and of all files below folders.

    Parameters
    ----------
    paths
        Files and folders that are read. A Zarr array is a folder, and its chunks are files below it.
    name
        Name of the source: a URL if it is in an object store.

    Returns
    -------
    str or None
        SHA-256; None for an object store, where it would take a request for each chunk.
    """
    if "://" in name:
        _log.info("%s: its chunks may change in the object store, so no ingest is resumed", name)
        return None
    state = hashlib.sha256()
    for path in paths:
        for file, size, time in sorted(_states(path)):
            state.update(f"{file}\0{size}\0{time}\n".encode(errors="surrogateescape"))
    return state.hexdigest()


def _states(path: Path) -> Iterator[tuple[str, int, int]]:
    """Path, size and time of the last change of a file, or of all files below a folder."""
    if path.is_dir():
        yield from _below(str(path))
    else:
        found = path.stat()
        yield str(path), found.st_size, found.st_mtime_ns


def _below(folder: str) -> Iterator[tuple[str, int, int]]:
    """Those of a folder, without a Path object for each file: there may be millions."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _below(entry.path)
            else:
                found = entry.stat()
                yield entry.path, found.st_size, found.st_mtime_ns
