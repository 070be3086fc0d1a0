"""Messages of failed writes: the cause and the remedy."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from ddgm_dist.errors import StorageError
from ddgm_dist.paths.object_store import request_error
from ddgm_dist.paths.place import ObjectPath, Place

__all__ = ["errno_of", "obstacle", "write_error"]

# tensorstore's errors are texts; of local files they end with the system's number.
_CODE = re.compile(r"os_error_code='(\d+)'")
_AGAIN = "then run again"
_KNOWN = {
    errno.EDQUOT: "the quota of the user, group or project there is used up, of bytes or of files; "
    f"delete some or ask for more, {_AGAIN}",
    errno.EROFS: "that file system is read-only; choose another place, or have it mounted for "
    f"writing, {_AGAIN}",
    errno.EFBIG: "a file may not grow so large there; raise the limit (ulimit -f) or choose another "
    f"file system, {_AGAIN}",
    errno.EACCES: f"it is not allowed; check who may write there, {_AGAIN}",
    errno.EPERM: f"it is not allowed; check who may write there, {_AGAIN}",
    errno.EIO: f"the disk or its server fails; look into the system's log, {_AGAIN}",
    errno.ENAMETOOLONG: f"a name there is too long; choose a shorter one, {_AGAIN}",
    errno.EMFILE: "this process has as many files open as it may; raise the limit (ulimit -n), "
    f"{_AGAIN}",
    errno.ENFILE: f"the machine has as many files open as it may; end some programs, {_AGAIN}",
}
_TEXTS = {os.strerror(number): number for number in (errno.ENOSPC, *_KNOWN)}


def errno_of(error: BaseException) -> int | None:
    """The system's number of an error, which may be in its text only; None if unknown."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = str(error)
    if found := _CODE.search(text):
        return int(found[1])
    return next((number for words, number in _TEXTS.items() if words in text), None)


def obstacle(place: Path, error: BaseException) -> str:
    """Explain why a write to a place failed, and the remedy, in a clause without a full stop.

    Parameters
    ----------
    place
        A file or folder on a disk; it need not be there.
    error
        The exception that the write raised.
    """
    number = errno_of(error)
    if number is not None and number in _KNOWN:
        return _KNOWN[number]
    try:
        there = next(p for p in (place, *place.parents) if p.exists())
        disk = os.statvfs(there)
    except OSError:
        return f"the room there is unknown; free space or check the disk, {_AGAIN}"
    room = f"{disk.f_bavail * disk.f_frsize} bytes are free there"
    # A file system without a bound on its files says that it has none at all.
    if number == errno.ENOSPC and disk.f_files > 0 and disk.f_favail == 0:
        return (
            f"no inodes (files) are left there, though {room}; delete files there or choose another "
            f"file system, {_AGAIN}"
        )
    return f"{room}; free space or check the disk, {_AGAIN}"


def write_error(place: Place, nbytes: int, error: Exception) -> StorageError:
    """The error for a write that failed: how many bytes to which place, and why."""
    if isinstance(place, ObjectPath):
        return request_error(f"writing {nbytes} bytes to", place, error)
    return StorageError(
        f"writing {nbytes} bytes to {place} failed; {obstacle(place, error)} ({error})"
    )
