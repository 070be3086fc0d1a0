"""The folder where Ray keeps its files on this machine, checked before Ray is started."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ddgm_dist.errors import DdgmError, InputError

__all__ = ["LONGEST", "check_folder", "start_errors_in_one_line"]

_VARIABLES = ("RAY_TMPDIR", "TMPDIR")  # in the order in which Ray looks at them
_OTHERWISE = "/tmp"
# Of the name of a socket, in bytes: sun_path of Linux has 108, with a zero at its end.
LONGEST = 107
_ROOM = 2**20  # bytes; a session's first files take about 100 kB
_REMEDY = "export RAY_TMPDIR=/tmp, or another folder of this machine with a short name"


def check_folder() -> None:
    """Refuse a folder in which Ray could not start.

    Raises
    ------
    InputError
        It is relative, too long for the names of sockets, no folder, or cannot be written; the
        message names the variable that it is from.
    """
    variable, text = _chosen()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(variable, text, "is not UTF-8, which Ray needs", _REMEDY) from None
    if not text.startswith("/"):
        raise InputError(variable, text, "is not an absolute path, which Ray needs", _REMEDY)
    length = len(text.rstrip("/").encode())
    most = LONGEST - len(_socket())
    if length > most:
        raise InputError(
            variable,
            text,
            f"has {length} bytes, and Ray's sockets below it leave room for {most}: the system takes "
            f"names of at most {LONGEST}",
            _REMEDY,
        )
    _check_writable(variable, text)


def _chosen() -> tuple[str, str]:
    """The variable that counts, and the folder."""
    for name in _VARIABLES:
        if name in os.environ:
            return name, os.environ[name]
    return _VARIABLES[0], _OTHERWISE


def _socket() -> str:
    """The part that Ray adds to the folder; date and process number have the usual lengths."""
    return f"/ray/session_2000-01-01_00-00-00_000000_{os.getpid()}/sockets/plasma_store"


def _check_writable(variable: str, text: str) -> None:
    """Ray makes the folder, and one below it. Nothing is made here."""
    below = Path(text, "ray")
    try:
        there = next(p for p in (below, *below.parents) if p.exists())
        if not stat.S_ISDIR(there.stat().st_mode):
            raise InputError(variable, text, f"{there} is not a folder", _REMEDY)
        if not os.access(there, os.W_OK | os.X_OK):
            raise InputError(variable, text, f"{there} cannot be written", _REMEDY)
        found = os.statvfs(there)
    except OSError as error:
        raise InputError(variable, text, f"cannot be used ({error.strerror})", _REMEDY) from error
    free = found.f_bavail * found.f_frsize
    if found.f_blocks and free < _ROOM:
        raise InputError(
            variable, text, f"only {free} bytes are free there; Ray needs at least {_ROOM}", _REMEDY
        )


@contextlib.contextmanager
def start_errors_in_one_line() -> Iterator[None]:
    """Turn what Ray raises when it fails to start into one line that names the folder of its logs.

    Raises
    ------
    InputError
        Ray could not use its folder.
    DdgmError
        Its processes did not start, or not in time.
    """
    variable, text = _chosen()
    try:
        yield
    except OSError as error:
        raise InputError(
            variable, text, f"Ray cannot use the folder ({error.strerror or error})", _REMEDY
        ) from error
    except DdgmError:
        raise
    except Exception as error:  # Ray raises no narrower kind
        raise DdgmError(
            f"Ray did not start on this machine ({' '.join(str(error).split())}); its logs are in "
            f"{text}/ray/session_latest/logs; try again when the machine is less busy, or use "
            "--engine local"
        ) from error
