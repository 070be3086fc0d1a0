"""Bytes that a folder takes on a disk."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ddgm_dist.paths.place import Place

__all__ = ["bytes_of"]


def bytes_of(folder: Place) -> int | None:
    """Bytes of all files in a folder, as far as they can be looked at; None in an object store."""
    if not isinstance(folder, Path):
        return None
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += file.stat().st_size if file.is_file() else 0
    return total
