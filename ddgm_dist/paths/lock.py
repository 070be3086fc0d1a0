"""A lock on a folder, for code that reads a file and then replaces it.

`filelock` does not replace it. On a file system without locks it raises, or falls back to a marker
file, which a killed process leaves behind. Here the run continues with a warning. The lock's file may
be deleted with its folder, which older versions of `filelock` do not notice.
"""

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
# Seconds; work under a lock takes milliseconds.
_WAIT = 10.0
_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)

log = logging.getLogger("ddgm_dist")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made if it does not exist.

    The lock is the system's (flock) on the file ``.lock`` there, which stays empty. It ends with its
    process, however that ends. A file system without locks is logged as a warning.

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
            # The process that held the lock may have deleted its file: then lock the new one.
            if _is_current(file.fileno(), folder):
                yield
                return


def _is_current(descriptor: int, folder: Path) -> bool:
    """Return whether the lock's name still refers to the file that is locked."""
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
