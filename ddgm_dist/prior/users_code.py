"""Errors of users' code, reported as theirs with the place in their code."""

from __future__ import annotations

import re
import sysconfig
import traceback
from pathlib import Path
from types import TracebackType

import torch

from ddgm_dist.errors import DdgmError, InputError

__all__ = ["passes", "raised"]

_LONGEST = 300
# torch raises a plain RuntimeError with such words for memory that the CPU, or TorchScript, lacks.
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory", re.IGNORECASE)
_TORCH = Path(torch.__file__).resolve().parent
_LIBRARIES = [
    _TORCH,
    Path(__file__).resolve().parents[1],
    *(Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "purelib", "platlib")),
]
_TORCHSCRIPT = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')


def passes(error: BaseException) -> bool:
    """Return whether an error passes through unchanged, as an engine or the command line handles it.

    These are lacking memory, a failed device, and errors of this package and of Ray. Of exceptions that
    are no `Exception`, only SystemExit is an error of the user's code.
    """
    if isinstance(error, SystemExit):
        return False
    if type(error).__module__.partition(".")[0] == "ray":
        return True
    known = (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError, DdgmError)
    return not isinstance(error, Exception) or isinstance(error, known)


def raised(
    error: BaseException, name: str, doing: str, hint: str = "", *, argument: str = "denoiser"
) -> DdgmError | MemoryError:
    """The exception to raise for an error of a user's code.

    Parameters
    ----------
    error
        The exception, as the function that called the code has caught it.
    name
        Name of the code, as the user gave it.
    doing
        Circumstance of the error, such as ``when called``.
    hint
        Advice where the error has no place in the user's code.
    argument
        Key of the configuration that names the code.

    Returns
    -------
    DdgmError | MemoryError
        An `InputError` with the error's message and place; a `MemoryError` where memory is lacking.
    """
    words = _words(error)
    if isinstance(error, RuntimeError) and _NO_MEMORY.search(words):
        return MemoryError(words)
    place = _place(error)
    if place:
        return InputError(argument, name, f"raised {doing}: {words} ({place})", "correct it there")
    return InputError(argument, name, f"raised {doing}: {words}", hint)


def _words(error: BaseException) -> str:
    """``Type: message`` in one line; TorchScript's trace is cut to its last line."""
    text = str(error)
    if text.startswith("The following operation failed in the TorchScript interpreter"):
        text = text.strip().splitlines()[-1]
    if isinstance(error, SyntaxError):
        text = error.msg  # `_place` reports where
    words = " ".join(text.split())
    kind = type(error).__name__
    whole = words if words.startswith(f"{kind}:") else f"{kind}: {words}" if words else kind
    return whole if len(whole) <= _LONGEST else whole[: _LONGEST - 3] + "..."


def _place(error: BaseException) -> str:
    """``file:line in function`` of the innermost frame in the user's code; empty if there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(_within(error.__traceback__))
    theirs = [frame for frame in frames if not _is_library(frame.filename)]
    if theirs:
        return f"{theirs[-1].filename}:{theirs[-1].lineno} in {theirs[-1].name}"
    scripted = _TORCHSCRIPT.findall(str(error))
    if scripted:
        file, line, function = scripted[-1]
        return f"{file}:{line} in {function}"
    named = [frame for frame in frames if not _is_machinery(frame.filename)]
    return f"{named[0].filename}:{named[0].lineno} in {named[0].name}" if named else ""


def _within(trace: TracebackType | None) -> TracebackType | None:
    """The trace without its first frame, which is that of the caller."""
    return None if trace is None else trace.tb_next


def _is_library(file: str) -> bool:
    """Return whether a file belongs to Python, torch or an installed package."""
    return file.startswith("<") or _is_within(file, _LIBRARIES)


def _is_within(file: str, folders: list[Path]) -> bool:
    return any(Path(file).resolve().is_relative_to(folder) for folder in folders)


def _is_machinery(file: str) -> bool:
    """Return whether a file merely leads to the code: Python's import system, or torch's calls."""
    return file.startswith("<") or "importlib" in file or _is_within(file, [_TORCH])
