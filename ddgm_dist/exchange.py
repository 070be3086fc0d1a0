"""Putting a folder in the place of another one, so that the place never lies empty.

Linux exchanges two names in one step (``renameat2``). Where the system or the file system cannot, two
renames do it: the former folder is put aside under the name of `set_aside`, then the new one takes its
place. A process that is killed between the two leaves the place empty and both folders whole;
`bring_back` then returns the former one.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ddgm_dist.errors import StorageError

__all__ = ["beside", "bring_back", "put_in_place", "set_aside"]

_CURRENT_FOLDER, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
# A reader may bring the former folder back just when it has been put aside.
_TRIES = 10


def beside(place: Path) -> Path:
    """Where the folder is written that is to take the place of another: on the same file system."""
    return place.with_name(f".{place.name}.new")


def set_aside(place: Path) -> Path:
    """Where the former folder lies between the two renames."""
    return place.with_name(f".{place.name}.old")


def put_in_place(new: Path, place: Path) -> None:
    """Give a folder the name of another, which lies under the name ``new`` afterwards, if there was one.

    Raises
    ------
    StorageError
        Something else was put there meanwhile.
    OSError
        The folders cannot be renamed.
    """
    if not place.exists():
        bring_back(place)
    if place.exists():
        # A process may have been killed when all but the deletion of the former folder was done.
        shutil.rmtree(set_aside(place), ignore_errors=True)
        if not _exchange(new, place):
            _rename_both(new, place)
        return
    try:
        new.rename(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise StorageError(
            f"{place} was made by somebody else meanwhile, and is not replaced; choose another name"
        ) from error


def bring_back(place: Path) -> None:
    """Return the former folder to its place, if one was put aside and nothing has taken its place."""
    aside = set_aside(place)
    if aside.is_dir() and not place.exists():
        with contextlib.suppress(OSError):  # another process does the same
            aside.rename(place)


def _rename_both(new: Path, place: Path) -> None:
    aside = set_aside(place)
    for _ in range(_TRIES):
        place.rename(aside)
        with contextlib.suppress(FileExistsError):
            return _finish(new, place, aside)
    raise StorageError(f"{place} cannot be replaced: something else puts folders there")


def _finish(new: Path, place: Path, aside: Path) -> None:
    try:
        new.rename(place)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise FileExistsError(error.errno, error.strerror, str(place)) from error
        bring_back(place)
        raise
    aside.rename(new)


def _exchange(a: Path, b: Path) -> bool:
    """Exchange two names in one step; tells whether the system can."""
    rename = _renameat2()
    if rename is None:
        return False
    names = (os.fsencode(a), os.fsencode(b))
    if rename(_CURRENT_FOLDER, names[0], _CURRENT_FOLDER, names[1], _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(b))


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    """The system's call, where its library has it (Linux with glibc 2.28 or newer, or musl)."""
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    function.argtypes = (
        ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint,
    )  # fmt: skip
    function.restype = ctypes.c_int
    call: Callable[..., int] = function
    return call
