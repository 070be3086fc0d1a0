"""Replace a folder by another one, so that the place is never empty.

Linux exchanges two names in one step (``renameat2``). Elsewhere two renames do it: `set_aside` renames
the former folder, then the new one takes its place. A process that is killed between the two leaves
the place empty and both folders whole; `bring_back` then restores the former one. A file in the folder
marks it as put aside, so an unrelated folder of that name is not touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import glob
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ddgm_dist.errors import InputError, StorageError

__all__ = [
    "beside",
    "bring_back",
    "delete_aside",
    "others_of",
    "put_in_place",
    "refuse_in_the_way",
    "set_aside",
]

_CURRENT_FOLDER, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
_MARK = ".ddgm-dist-aside"


def set_aside(place: Path) -> Path:
    """Path of the former folder between the two renames."""
    return place.with_name(f".{place.name}.old")


def beside(place: Path, name: str) -> Path:
    """Path of a folder that is to take the place of another, on the same file system."""
    return place.with_name(f".{place.name}.{name}")


def others_of(place: Path) -> list[Path]:
    """Folders beside a place that its replacement deletes or renames."""
    try:
        found = sorted(place.parent.glob(f".{glob.escape(place.name)}.new-*"))
    except OSError:
        found = []
    return [*found, set_aside(place)]


def refuse_in_the_way(place: Path) -> None:
    """Refuse a folder that occupies the name of `set_aside`, before any work.

    Raises
    ------
    InputError
        A folder of that name exists and was not put aside by this package.
    """
    aside = set_aside(place)
    if aside.exists() and not _is_marked(aside):
        raise InputError(
            "out",
            str(place),
            f"{aside.name} beside it is in the way: that name is needed while it is replaced",
            "rename that one, or choose another output",
        )


def put_in_place(new: Path, place: Path) -> None:
    """Exchange the names of two folders.

    Raises
    ------
    OSError
        The folders cannot be renamed; the former one is in its place.
    StorageError
        The former folder could not be returned to its place either; the message has its path.
    """
    if not _exchange(new, place):
        _rename_both(new, place)


def bring_back(place: Path) -> None:
    """Return the former folder to its place, if one was put aside and nothing has taken its place."""
    aside = set_aside(place)
    if _is_marked(aside) and not place.exists():
        with contextlib.suppress(OSError):  # another process may do the same
            aside.rename(place)
            (place / _MARK).unlink()


def delete_aside(place: Path) -> None:
    """Delete a former folder that was put aside, if its place has been taken.

    Raises
    ------
    OSError
        It cannot be deleted.
    """
    if _is_marked(set_aside(place)) and place.exists():
        shutil.rmtree(set_aside(place))


def _is_marked(aside: Path) -> bool:
    return (aside / _MARK).is_file()


def _rename_both(new: Path, place: Path) -> None:
    aside = set_aside(place)
    delete_aside(place)
    (place / _MARK).touch()
    try:
        place.rename(aside)
        new.rename(place)
    except BaseException:
        bring_back(place)
        if _is_marked(aside):
            raise StorageError(
                f"{place} could not be replaced; what was there is whole, and lies in {aside}"
            ) from None
        (place / _MARK).unlink(missing_ok=True)
        raise
    aside.rename(new)
    (new / _MARK).unlink(missing_ok=True)


def _exchange(a: Path, b: Path) -> bool:
    """Exchange two names in one step; False where the system cannot."""
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
    """The system call, where the C library has it (glibc 2.28 or newer, or musl)."""
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    at, name = ctypes.c_int, ctypes.c_char_p
    function.argtypes = (at, name, at, name, ctypes.c_uint)
    function.restype = ctypes.c_int
    call: Callable[..., int] = function
    return call
