"""Small JSON files of a record: where they lie, how they are written and read."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np

from ddgm_dist.errors import StorageError
from ddgm_dist.paths.files import compare_and_swap, read_bytes, write_bytes
from ddgm_dist.paths.free_space import write_error
from ddgm_dist.paths.place import Place
from ddgm_dist.records.damage import RecordDamagedError

__all__ = [
    "NAME",
    "finite_value",
    "is_safe",
    "parse_json",
    "plain_value",
    "problem_dir",
    "read_file",
    "replace_text",
    "replace_text_if",
    "to_json",
]


NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"


def problem_dir(kind: str, problem: str) -> str:
    """The folder for what is of one kind and one problem (its hash).

    Raises
    ------
    ValueError
        The hash is none: it might lead elsewhere.
    """
    return f"{kind}/{is_safe(problem[:16])}"


def is_safe(name: str) -> str:
    """The name, if it cannot lead out of the folder: names come from tiles."""
    if not re.fullmatch(NAME, name):
        raise ValueError(f"{name!r} is not a name of letters, digits, '.', '_' and '-'")
    return name


def replace_text(path: Place, text: str) -> None:
    """Write so that readers see all or nothing."""
    try:
        write_bytes(path, text.encode())
    except OSError as error:
        raise write_error(path, len(text), error) from error


def replace_text_if(path: Place, text: str, stamp: bytes) -> bool:
    """Write as `replace_text` does, if the file is still the one of the stamp; tells whether it was."""
    try:
        return compare_and_swap(path, text.encode(), stamp)
    except OSError as error:
        raise write_error(path, len(text), error) from error


def read_file(path: Place) -> bytes | None:
    try:
        return read_bytes(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}") from error


def parse_json(path: Place, data: bytes | None) -> Any | None:
    try:
        return None if data is None else json.loads(data.decode())
    except ValueError as error:
        raise RecordDamagedError(f"{path} is damaged: {error}") from error


def to_json(value: Any) -> str:
    """A value as the text of a file."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False, default=plain_value) + "\n"


def plain_value(value: object) -> Any:
    """What json cannot write itself, as plain values."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Place):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def finite_value(value: Any) -> Any:
    """The value with NaN and infinities replaced by None: a log line must never stop a run."""
    if isinstance(value, dict):
        return {key: finite_value(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite_value(part) for part in value]
    if isinstance(value, np.ndarray | np.generic):
        return finite_value(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
