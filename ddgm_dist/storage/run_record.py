"""What stands beside a result: its state, the receipts of finished tiles, the log of events.

Everything lies in the folder ``ddgm_dist`` of the output store. Files are replaced atomically, so
whatever interrupts a run, each file is either the old one or the new one. A missing shard reads
as NaN without an error; the receipts say which tiles are finished, and ``state.json`` says whether
the volume may be taken for whole: ``{"state": "running" | "complete", "problem": <hash>}``.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.location import (
    ObjectPath,
    Place,
    delete,
    delete_folder,
    locate,
    names,
    read_all,
    read_bytes,
    write_bytes,
)
from ddgm_dist.storage.array_io import write_error
from ddgm_dist.storage.volume import SIDECAR, VolumeStore, open_volume_store

__all__ = ["COMPLETE", "RUNNING", "RunRecord", "open_result"]

RUNNING, COMPLETE = "running", "complete"
_STATE, _RECEIPTS, _EVENTS = "state.json", "receipts", "events"

log = logging.getLogger("ddgm_dist")


class RunRecord:
    """The sidecar files of one output store.

    Parameters
    ----------
    path
        The output store (``OUT.zarr``); its folder ``ddgm_dist`` is made on the first write.
    """

    def __init__(self, path: str | Path | ObjectPath) -> None:
        self.folder: Place = locate(path, "out") / SIDECAR
        self._segments: dict[str, int] = {}

    def write_json(self, name: str, value: Any) -> None:
        """Write ``name`` (``.json`` is added if missing) atomically and durably.

        numpy numbers and arrays, tuples and paths are written as JSON numbers, lists and strings.

        Raises
        ------
        ValueError
            The name is not a plain file name, or the value holds NaN or infinity, which JSON
            does not know.
        StorageError
            The file cannot be written.
        """
        text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, default=_plain)
        _replace(self._path(name), text + "\n")

    def read_json(self, name: str) -> Any | None:
        """The value written under ``name``, or None.

        Raises
        ------
        StorageError
            The file is not JSON: something else damaged it.
        """
        return _load(self._path(name))

    def _path(self, name: str) -> Place:
        *folders, last = (_safe(part) for part in name.split("/"))
        if len(folders) > 1:
            raise ValueError(f"{name!r} has more than one folder")
        return self.folder / "/".join([*folders, f"{last.removesuffix('.json')}.json"])

    def write_state(self, state: str, problem: str) -> None:
        """Say that the volume is ``running`` or ``complete``, and of which problem (its hash)."""
        if state not in (RUNNING, COMPLETE):
            raise ValueError(f"state {state!r} is neither {RUNNING!r} nor {COMPLETE!r}")
        self.write_json(_STATE, {"state": state, "problem": problem})

    def read_state(self) -> dict[str, str] | None:
        """What `write_state` wrote last, or None."""
        state = self.read_json(_STATE)
        if state is not None and not (isinstance(state, dict) and "state" in state):
            raise StorageError(f"{self.folder / _STATE} does not say the state of the volume")
        return state

    def add_receipt(self, receipt: dict[str, Any]) -> None:
        """Record a finished tile; ``receipt["tile"]`` is its name, a repeat replaces it.

        Raises
        ------
        ValueError
            The receipt has no name of letters, digits, ``.``, ``_`` and ``-``.
        StorageError
            The file cannot be written.
        """
        self.write_json(f"{_RECEIPTS}/{_safe(str(receipt.get('tile', '')))}", receipt)

    def receipts(self) -> dict[str, dict[str, Any]]:
        """Receipts by tile name; files that a killed writer left half-written are ignored."""
        receipts = (_parse(path, data) for path, data in self._files(_RECEIPTS, ".json"))
        return {str(found["tile"]): found for found in receipts if isinstance(found, dict)}

    def _files(self, folder: str, suffix: str) -> list[tuple[Place, bytes | None]]:
        """The files in one of the record's folders, with what they hold; sorted by name."""
        inside = self.folder / folder
        paths = [inside / name for name in names(inside) if _is_whole(name, suffix)]
        try:
            return list(zip(paths, read_all(paths), strict=True))
        except OSError as error:
            raise StorageError(f"{inside} cannot be read: {error}") from error

    def names(self, folder: str) -> list[str]:
        """Names of the JSON files in one of the record's folders, without ``.json``."""
        found = names(self.folder / _safe(folder))
        return [name.removesuffix(".json") for name in found if _is_whole(name, ".json")]

    def delete(self, name: str) -> None:
        """Delete what `write_json` wrote, if it is there."""
        delete(self._path(name))

    def delete_folder(self, folder: str) -> None:
        """Delete one of the record's folders and all in it."""
        delete_folder(self.folder / _safe(folder), ignore_errors=True)

    def append_events(self, session: str, events: Sequence[Mapping[str, Any]]) -> None:
        """Add lines to the log, as one file ``events/<session>-<k>.jsonl``; NaN becomes null.

        A file per call, for what is written is never changed: call it every few seconds.

        Raises
        ------
        StorageError
            The file cannot be written.
        """
        lines = [json.dumps(_finite(event), allow_nan=False, default=_plain) for event in events]
        number = self._segments.setdefault(session, 0)
        self._segments[session] = number + 1
        name = f"{_safe(session)}-{number:06d}.jsonl"
        _replace(self.folder / _EVENTS / name, "\n".join(lines) + "\n")

    def events(self) -> list[dict[str, Any]]:
        """All events: sessions in the order in which they began, each in the order of its log.

        Lines that cannot be read are left out, and told through `logging`: a log is for people, and
        nothing rests on it.
        """
        sessions: dict[str, list[dict[str, Any]]] = {}
        for path, data in self._files(_EVENTS, ".jsonl"):  # None: the run was started anew
            sessions.setdefault(path.stem.rpartition("-")[0], []).extend(
                _segment(path, data or b"")
            )
        return [event for events in sorted(sessions.values(), key=_time) for event in events]


def _segment(path: Place, data: bytes) -> list[dict[str, Any]]:
    """The events of one file of the log that can be read."""
    found, bad = [], 0
    for line in data.decode("utf-8", errors="replace").split("\n"):
        try:
            event = json.loads(line) if line.strip() else None
        except ValueError:
            event = line
        if isinstance(event, dict):
            found.append(event)
        elif event is not None:
            bad += 1
    if bad:
        log.warning("%s is damaged: %d lines of it are left out", path, bad)
    return found


def _time(events: Sequence[Mapping[str, Any]]) -> float:
    """When the first of some events was."""
    first = events[0] if events else {}
    time = first.get("time") or first.get("started")
    return float(time) if isinstance(time, int | float) else 0.0


def open_result(path: str | Path | ObjectPath, *, allow_partial: bool = False) -> VolumeStore:
    """Open a volume that a run made, for reading, if it is whole.

    Raises
    ------
    InputError
        There is no OME-Zarr image at ``path``, or no record of a run beside it.
    StorageError
        The run has not finished (and ``allow_partial`` is false).
    """
    store = open_volume_store(path)
    record = RunRecord(path)
    state = record.read_state()
    if allow_partial:
        return store
    if state is None:
        raise InputError("volume", str(path), "has no record of a run beside it: is it a result?")
    if state["state"] != COMPLETE:
        done = len(record.receipts())
        raise StorageError(
            f"{path} is not whole: its run has finished {done} tiles and was interrupted or still "
            "goes on; run reconstruct again on the same output to finish it"
        )
    return store


def _safe(name: str) -> str:
    """The name, if it cannot lead out of the folder: names come from tiles."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"{name!r} is not a name of letters, digits, '.', '_' and '-'")
    return name


def _is_whole(name: str, suffix: str) -> bool:
    """Whether a file is of a kind, and not one that a killed writer left half-written."""
    return name.endswith(suffix) and not name.startswith(".")


def _replace(path: Place, text: str) -> None:
    """Write so that readers see all or nothing."""
    try:
        write_bytes(path, text.encode())
    except OSError as error:
        raise write_error(path, len(text), error) from error


def _load(path: Place) -> Any | None:
    try:
        return _parse(path, read_bytes(path))
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}") from error


def _parse(path: Place, data: bytes | None) -> Any | None:
    try:
        return None if data is None else json.loads(data.decode())
    except ValueError as error:
        raise StorageError(f"{path} cannot be read: {error}") from error


def _plain(value: object) -> Any:
    """What json cannot write itself, as plain values."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Place):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _finite(value: Any) -> Any:
    """The value with NaN and infinities replaced by None: a log line must never stop a run."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, np.ndarray | np.generic):
        return _finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
