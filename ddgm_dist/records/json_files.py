"""Small JSON files of a record: their names, and how they are written and read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ddgm_dist.errors import StorageError
from ddgm_dist.paths.files import (
    compare_and_swap,
    delete,
    delete_folder,
    get_with_etag,
    listdir,
    read_all,
    read_bytes,
    write_bytes,
)
from ddgm_dist.paths.free_space import write_error
from ddgm_dist.paths.place import Place
from ddgm_dist.records.damage import RecordDamagedError, log_damage

__all__ = [
    "NAME",
    "JsonFolder",
    "finite_value",
    "is_safe",
    "parse_json",
    "plain_value",
    "problem_dir",
    "read_file",
    "read_table",
    "replace_text",
    "to_json",
]


NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
# Small files read at a time: a run may have a million receipts.
_BATCH = 1000
# Attempts to replace a file that other processes replace at the same time.
_ATTEMPTS = 10


def problem_dir(kind: str, problem: str) -> str:
    """The folder for files of one kind that belong to one problem (its hash).

    Raises
    ------
    ValueError
        The hash has other characters than a hash: it might lead elsewhere.
    """
    return f"{kind}/{is_safe(problem[:16])}"


def is_safe(name: str) -> str:
    """The name, if it cannot lead out of its folder; ValueError otherwise."""
    if not re.fullmatch(NAME, name):
        raise ValueError(f"{name!r} is not a name of letters, digits, '.', '_' and '-'")
    return name


def replace_text(path: Place, text: str) -> None:
    """Write a file whole; StorageError if that fails."""
    try:
        write_bytes(path, text.encode())
    except OSError as error:
        raise write_error(path, len(text), error) from error


def read_file(path: Place) -> bytes | None:
    try:
        return read_bytes(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}") from error


def read_table(path: Place) -> dict[str, Any]:
    """The object in a JSON file; empty where the file is missing or damaged."""
    try:
        found = json.loads(read_bytes(path) or b"{}")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def parse_json(path: Place, data: bytes | None) -> Any | None:
    try:
        return None if data is None else json.loads(data.decode())
    except ValueError as error:
        raise RecordDamagedError(f"{path} is damaged: {error}") from error


def to_json(value: Any) -> str:
    """A value as the text of a file."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False, default=plain_value) + "\n"


def plain_value(value: object) -> Any:
    """Numpy values and places as values that JSON knows."""
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


class JsonFolder:
    """Small JSON files in a folder, and in folders within it.

    Each is replaced in one step: a reader finds the old file or the new one, whole.
    """

    def __init__(self, folder: Place) -> None:
        self.folder = folder

    def write_json(self, name: str, value: Any) -> None:
        """Write ``name`` (``.json`` is added if missing) atomically and durably.

        numpy numbers and arrays, tuples and paths are written as JSON numbers, lists and strings.

        Raises
        ------
        ValueError
            The name may lead out of the folder, or the value holds NaN or infinity, which JSON does
            not know.
        StorageError
            The file cannot be written.
        """
        replace_text(self._path(name), to_json(value))

    def read_json(self, name: str) -> Any | None:
        """The value written under ``name``, or None.

        Raises
        ------
        RecordDamagedError
            The file is not JSON.
        StorageError
            It cannot be read.
        """
        path = self._path(name)
        return parse_json(path, read_file(path))

    def has(self, name: str) -> bool:
        """Return whether a file of that name exists, even a damaged one."""
        return read_file(self._path(name)) is not None

    def update_json(self, name: str, change: Callable[[Any | None], Any | None]) -> None:
        """Replace a value by one that depends on it, as one step.

        If another process replaces the file in between, `change` is called again.

        Parameters
        ----------
        name
            As of :meth:`write_json`.
        change
            Takes the value that is there: None if there is none, or a damaged file. Returns the new
            value; None leaves the file as it is.

        Raises
        ------
        StorageError
            The file cannot be read or written.
        """
        path = self._path(name)
        for _ in range(_ATTEMPTS):
            try:
                data, stamp = get_with_etag(path)
            except OSError as error:
                raise StorageError(f"{path} cannot be read: {error}") from error
            found = None
            with log_damage():
                found = parse_json(path, data)
            value = change(found)
            if value is None:
                return
            text = to_json(value).encode()
            try:
                if compare_and_swap(path, text, stamp):
                    return
            except OSError as error:
                raise write_error(path, len(text), error) from error
        raise StorageError(
            f"{path} is replaced by other processes again and again; which write there?"
        )

    def _path(self, name: str) -> Place:
        *folders, last = (is_safe(part) for part in name.split("/"))
        if len(folders) > 2:
            raise ValueError(f"{name!r} has more than two folders")
        return self.folder / "/".join([*folders, f"{last.removesuffix('.json')}.json"])

    def _folder(self, name: str) -> Place:
        return self.folder / "/".join(is_safe(part) for part in name.split("/"))

    def _files(self, folder: str, suffix: str) -> Iterator[tuple[Place, bytes | None]]:
        """Files of one of the folders, sorted by name, with their content."""
        inside = self._folder(folder)
        found = [name for name in listdir(inside) if _is_whole(name, suffix)]
        for first in range(0, len(found), _BATCH):
            paths = [inside / name for name in found[first : first + _BATCH]]
            try:
                yield from zip(paths, read_all(paths), strict=True)
            except OSError as error:
                raise StorageError(f"{inside} cannot be read: {error}") from error

    def names(self, folder: str) -> list[str]:
        """Names of the JSON files in one of the folders, without ``.json``."""
        found = listdir(self._folder(folder))
        return [name.removesuffix(".json") for name in found if _is_whole(name, ".json")]

    def delete(self, name: str) -> None:
        """Delete a file that `write_json` wrote, if it is there."""
        delete(self._path(name))

    def delete_folder(self, folder: str) -> None:
        """Delete one of the folders and all in it."""
        delete_folder(self._folder(folder), ignore_errors=True)


def _is_whole(name: str, suffix: str) -> bool:
    """Return whether a file name has the suffix, and is not that of a temporary file."""
    return name.endswith(suffix) and not name.startswith(".")
