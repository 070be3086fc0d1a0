"""The one writer of small files on a disk: a reader sees the old content or the new one, whole.

The content goes to a temporary file beside the place, which then takes its name.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

__all__ = ["partial", "replace_file", "write_durably"]

Content = bytes | Callable[[BinaryIO], object]


def partial(path: Path) -> Path:
    """The temporary file of a path with one writer; the next writer overwrites it after a kill."""
    return path.with_name(f"{path.name}.partial")


def replace_file(path: Path, content: Content, *, shared: bool = False) -> None:
    """Put a file in the place of one that may be there, durably; folders above it are made.

    Parameters
    ----------
    path
        The file to be replaced.
    content
        The new bytes, or a function that writes them to an open binary file.
    shared
        Whether several processes may write this path at a time; each then has a temporary file with
        a unique name.

    Raises
    ------
    OSError
        The file cannot be written; the old one is untouched.
    """
    unique = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    temporary = unique if shared else partial(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(temporary, content)
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_durably(path: Path, content: Content) -> None:
    """Write a file and wait until the disk has it; raises as `replace_file` does."""
    with path.open("wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            content(file)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
