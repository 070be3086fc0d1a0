"""One process at a time in a folder, for what must look at a file before it replaces it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["LOCK", "locked"]

LOCK = ".lock"
# Seconds; what is done under a lock takes milliseconds.
_WAIT = 10.0
_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)

log = logging.getLogger("ddgm_dist")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only one in a folder, which is made if need be.

    The lock is one of the system's (flock) on the file ``.lock`` there. It ends with its process,
    however that ends, and the file says nothing. A file system without locks is warned of.

    Raises
    ------
    TimeoutError
        Another process has held it for 10 s: that one is halted, or the file system is too slow.
    OSError
        The file cannot be made.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = (folder / LOCK).open("ab")
        except FileNotFoundError:
            continue  # the folder was deleted at this moment
        with file:
            _wait(file.fileno(), folder)
            # Whoever held the lock may have deleted its file: then there is another one to be locked.
            if _is_current(file.fileno(), folder):
                yield
                return


def _is_current(descriptor: int, folder: Path) -> bool:
    """Whether the file that was locked is the one that others see."""
    try:
        seen = (folder / LOCK).stat()
    except FileNotFoundError:
        return False
    return seen.st_ino == os.fstat(descriptor).st_ino


def _wait(descriptor: int, folder: Path) -> None:
    until = time.monotonic() + _WAIT
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise TimeoutError(
                    errno.ETIMEDOUT,
                    f"another process has held its lock for {_WAIT:.0f} s",
                    str(folder),
                ) from None
            time.sleep(0.01)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            return log.warning(
                "%s: this file system has no locks; make sure that no second run writes there",
                folder,
            )
