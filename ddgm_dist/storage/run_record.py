"""What stands beside a result: its state, the receipts of finished tiles, the log of events.

Everything lies in the folder ``ddgm_dist`` of the output store. Files are replaced atomically, so
whatever interrupts a run, each file is either the old one or the new one. A missing shard reads
as NaN without an error; the receipts say which tiles are finished, and ``state.json`` says whether
the volume may be taken for whole: ``{"state": "running" | "complete", "problem": <hash>}``.

What one problem's workers write lies in folders named by the problem's hash (`shelf`): a worker that
was cut off may go on writing when the output belongs to another problem, and must not be mistaken.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ddgm_dist.core.box import Box
from ddgm_dist.errors import DdgmError, InputError, StorageError
from ddgm_dist.location import (
    ObjectPath,
    Place,
    delete,
    delete_folder,
    is_zarr,
    locate,
    names,
    read_all,
    read_bytes,
    read_stamped,
    refuse_links,
    write_bytes,
    write_if,
)
from ddgm_dist.storage.array_io import write_error
from ddgm_dist.storage.replacement import current, pending
from ddgm_dist.storage.volume import SIDECAR, VolumeStore, open_volume_store

__all__ = [
    "COMPLETE",
    "RECEIPTS",
    "RUNNING",
    "SAMPLES",
    "SAMPLE_RECEIPTS",
    "OutputReplacedError",
    "RecordDamagedError",
    "RunRecord",
    "damage_told",
    "open_result",
    "receipt_box",
    "sample_place",
    "shelf",
    "std_place",
    "written_at",
]

What = Literal["mean", "std"] | int

RUNNING, COMPLETE = "running", "complete"
RECEIPTS = "receipts"
# Of the tiles of several samples, and the samples' volumes themselves; mean and deviation made of them.
SAMPLE_RECEIPTS = "sample-receipts"
SAMPLES, STD = "samples", "std"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_PROBLEM, _STATE, _EVENTS = "problem.json", "state.json", "events"
# Receipts read at a time: there may be a million of them.
_BATCH = 1000
# Times that a file may be replaced by others between look and write.
_LOOKS = 10

log = logging.getLogger("ddgm_dist")


class RecordDamagedError(StorageError):
    """A file of the record is there, and is not what was written."""


class OutputReplacedError(DdgmError):
    """The output belongs to another problem now: who still works at the old one is to stop."""

    exit_status = 2


def shelf(kind: str, problem: str) -> str:
    """The folder for what is of one kind and one problem (its hash).

    Raises
    ------
    ValueError
        The hash is none: it might lead elsewhere.
    """
    return f"{kind}/{_safe(problem[:16])}"


class RunRecord:
    """The sidecar files of one output store.

    Parameters
    ----------
    path
        The output store (``OUT.zarr``); its folder ``ddgm_dist`` is made on the first write.
    """

    def __init__(self, path: str | Path | ObjectPath) -> None:
        self.folder: Place = current(locate(path, "out")) / SIDECAR
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
        _replace(self._path(name), _text(value))

    def read_json(self, name: str) -> Any | None:
        """The value written under ``name``, or None.

        Raises
        ------
        RecordDamagedError
            The file is not JSON: something else damaged it.
        StorageError
            It cannot be read.
        """
        path = self._path(name)
        return _parse(path, _read(path))

    def has(self, name: str) -> bool:
        """Whether there is something under ``name``, be it damaged."""
        return _read(self._path(name)) is not None

    def update_json(self, name: str, change: Callable[[Any | None], Any | None]) -> None:
        """Replace what is under ``name`` by what `change` makes of it, and of nothing else.

        If somebody else replaces it in between, `change` is asked again.

        Parameters
        ----------
        name
            As of :meth:`write_json`.
        change
            Takes what is there; None if there is nothing, or nothing that can be read. Gives what
            is to be there; None leaves it as it is.

        Raises
        ------
        StorageError
            The file cannot be read or written.
        """
        path = self._path(name)
        for _ in range(_LOOKS):
            try:
                data, stamp = read_stamped(path)
            except OSError as error:
                raise StorageError(f"{path} cannot be read: {error}") from error
            found = None
            with damage_told():
                found = _parse(path, data)
            value = change(found)
            if value is None or _replace_if(path, _text(value), stamp):
                return
        raise StorageError(f"{path} is replaced by others again and again; who writes there?")

    def _path(self, name: str) -> Place:
        *folders, last = (_safe(part) for part in name.split("/"))
        if len(folders) > 2:
            raise ValueError(f"{name!r} has more than two folders")
        return self.folder / "/".join([*folders, f"{last.removesuffix('.json')}.json"])

    def _folder(self, name: str) -> Place:
        return self.folder / "/".join(_safe(part) for part in name.split("/"))

    def write_state(self, state: str, problem: str) -> None:
        """Say that the volume is ``running`` or ``complete``, and of which problem (its hash)."""
        if state not in (RUNNING, COMPLETE):
            raise ValueError(f"state {state!r} is neither {RUNNING!r} nor {COMPLETE!r}")
        self.write_json(_STATE, {"state": state, "problem": problem})

    def read_state(self) -> dict[str, Any] | None:
        """What `write_state` wrote last, or None.

        Raises
        ------
        RecordDamagedError
            The file is something else.
        """
        found = self._essential(_STATE, "state", "problem")
        if found is not None and not re.fullmatch(_NAME, found["problem"]):
            raise RecordDamagedError(
                f"{self.folder / _STATE} is damaged: {found['problem']!r} is no hash of a problem"
            )
        return found

    def read_problem(self) -> dict[str, Any] | None:
        """The problem whose output this is, or None.

        Raises
        ------
        RecordDamagedError
            The file is something else.
        """
        return self._essential(_PROBLEM)

    def _essential(self, name: str, *texts: str) -> dict[str, Any] | None:
        """A file that nothing else can stand for: a table with some texts in it."""
        try:
            found = self.read_json(name)
            good = isinstance(found, dict) and all(isinstance(found.get(t), str) for t in texts)
            if found is not None and not good:
                raise RecordDamagedError(f"{self.folder / name} is damaged: it says something else")
        except RecordDamagedError as error:
            raise RecordDamagedError(
                f"{error}; put a good copy in its place (what is finished is kept), or begin anew "
                "with --overwrite"
            ) from None
        return found

    def check(self, problem: str) -> None:
        """Make sure that the output still belongs to a problem.

        Raises
        ------
        OutputReplacedError
            It does not.
        """
        self._check(self.read_state(), problem)

    def complete(self, problem: str) -> None:
        """Say that the volume is ``complete``, if it still belongs to a problem; raises as `check`."""

        def completed(state: Any) -> dict[str, str]:
            self._check(state, problem)
            return {"state": COMPLETE, "problem": problem}

        self.check(problem)  # which tells a damaged file from another's
        self.update_json(_STATE, completed)

    def _check(self, state: Any, problem: str) -> None:
        if not isinstance(state, dict) or state.get("problem") != problem:
            raise OutputReplacedError(
                f"{self.folder.parent} belongs to another problem now: somebody has replaced it, "
                "and nothing more of this one is written there; choose another name to solve both"
            )

    def add_receipt(self, receipt: dict[str, Any], kind: str = RECEIPTS) -> None:
        """Record a finished tile.

        Parameters
        ----------
        receipt
            ``tile`` is its name, ``problem`` the hash of the problem; a repeat replaces it.
        kind
            `RECEIPTS`, or `SAMPLE_RECEIPTS` for a tile of one of several samples.

        Raises
        ------
        ValueError
            The receipt has no name of letters, digits, ``.``, ``_`` and ``-``.
        StorageError
            The file cannot be written.
        """
        folder = shelf(kind, str(receipt.get("problem", "")))
        self.write_json(f"{folder}/{_safe(str(receipt.get('tile', '')))}", receipt)

    def receipt(self, tile: str, problem: str, kind: str = RECEIPTS) -> dict[str, Any] | None:
        """The receipt of a tile, if it has one that is whole."""
        with damage_told():
            path = f"{shelf(kind, problem)}/{tile}"
            return _as_receipt(self._path(path), self.read_json(path), problem)
        return None

    def receipts(self, problem: str, kind: str = RECEIPTS) -> Iterator[dict[str, Any]]:
        """Receipts of a problem, by name of tile; damaged ones are told, and count for nothing."""
        for path, data in self._files(shelf(kind, problem), ".json"):
            receipt = None
            with damage_told():
                receipt = _as_receipt(path, _parse(path, data), problem)
            if receipt is not None:
                yield receipt

    def _files(self, folder: str, suffix: str) -> Iterator[tuple[Place, bytes | None]]:
        """The files in one of the record's folders, with what they hold; sorted by name."""
        inside = self._folder(folder)
        found = [name for name in names(inside) if _is_whole(name, suffix)]
        for first in range(0, len(found), _BATCH):
            paths = [inside / name for name in found[first : first + _BATCH]]
            try:
                yield from zip(paths, read_all(paths), strict=True)
            except OSError as error:
                raise StorageError(f"{inside} cannot be read: {error}") from error

    def names(self, folder: str) -> list[str]:
        """Names of the JSON files in one of the record's folders, without ``.json``."""
        found = names(self._folder(folder))
        return [name.removesuffix(".json") for name in found if _is_whole(name, ".json")]

    def delete_others(self, kind: str, problem: str) -> None:
        """Delete what other problems than this left of a kind, as far as it can be deleted."""
        for name in names(self._folder(kind)):
            if (inside := f"{kind}/{name}") != shelf(kind, problem):
                self.delete_folder(inside)

    def delete(self, name: str) -> None:
        """Delete what `write_json` wrote, if it is there."""
        delete(self._path(name))

    def delete_folder(self, folder: str) -> None:
        """Delete one of the record's folders and all in it."""
        delete_folder(self._folder(folder), ignore_errors=True)

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


def open_result(
    path: str | Path | ObjectPath,
    *,
    what: What = "mean",
    allow_partial: bool = False,
) -> VolumeStore:
    """Open a volume that a run made, for reading, if it is whole.

    Parameters
    ----------
    path
        The output store.
    what
        ``mean``: the volume, level 0, which is the mean of the samples. ``std``: their standard
        deviation (with S - 1 in the denominator). A number: that sample, from 0, if it was kept.
    allow_partial
        Open what is not whole, too.

    Raises
    ------
    InputError
        There is no OME-Zarr image at ``path``, or no record of a run beside it; or not of ``what`` is
        asked for.
    StorageError
        The run has not finished (and ``allow_partial`` is false).
    """
    refuse_links(locate(path, "volume"), "volume")
    store = open_volume_store(path)
    record = RunRecord(path)
    state = record.read_state()
    if what != "mean":
        store = _open_part(path, what, record)
    if allow_partial:
        return store
    if state is None:
        raise InputError("volume", str(path), "has no record of a run beside it: is it a result?")
    if state["state"] != COMPLETE:
        done = len(record.names(shelf(RECEIPTS, state["problem"])))
        raise StorageError(
            f"{path} is not whole: its run has finished {done} tiles and was interrupted or still "
            "goes on; run reconstruct again on the same output to finish it"
        )
    return store


def _open_part(path: str | Path | ObjectPath, what: What, record: RunRecord) -> VolumeStore:
    """What there is beside the mean."""
    problem = record.read_problem() or {}
    samples = problem.get("config", {}).get("samples", 1)
    state = record.read_state() or {}
    if what == "std":
        place = std_place(path)
        if samples == 1:
            raise InputError(
                "what", what, f"is not there: {path} has one sample", "run it with samples=8"
            )
    else:
        if isinstance(what, str) or not 0 <= what < samples:
            raise InputError("what", what, f"is not mean, std or a sample below {samples}")
        if samples == 1:
            return open_volume_store(path)
        place = sample_place(path, state.get("problem", ""), what)
        if not is_zarr(place):
            raise InputError("what", what, "was not kept", "run it with keep_samples=true")
    return open_volume_store(place)


def written_at(out: str | Path | ObjectPath) -> Place:
    """Where the newest run of an output writes: there, or where its replacement is being made."""
    place = locate(out, "out")
    left = pending(place)
    return left if left is not None and RunRecord(left).has("problem") else place


def std_place(out: str | Path | ObjectPath) -> Place:
    """Where the standard deviation of several samples lies: an OME-Zarr image of its own."""
    return current(locate(out, "out")) / STD


def sample_place(out: str | Path | ObjectPath, problem: str, sample: int) -> Place:
    """Where a sample's volume lies while it is needed; likewise."""
    return current(locate(out, "out")) / SIDECAR / shelf(SAMPLES, problem) / str(sample)


def _safe(name: str) -> str:
    """The name, if it cannot lead out of the folder: names come from tiles."""
    if not re.fullmatch(_NAME, name):
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


def _replace_if(path: Place, text: str, stamp: bytes) -> bool:
    """Write as `_replace` does, if the file is still the one of the stamp; tells whether it was."""
    try:
        return write_if(path, text.encode(), stamp)
    except OSError as error:
        raise write_error(path, len(text), error) from error


def _read(path: Place) -> bytes | None:
    try:
        return read_bytes(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}") from error


def _parse(path: Place, data: bytes | None) -> Any | None:
    try:
        return None if data is None else json.loads(data.decode())
    except ValueError as error:
        raise RecordDamagedError(f"{path} is damaged: {error}") from error


@contextlib.contextmanager
def damage_told() -> Iterator[None]:
    """What can be done without when it is damaged is only warned of."""
    try:
        yield
    except RecordDamagedError as error:
        log.warning("%s; it is taken for absent", error)


def _as_receipt(path: Place, found: Any, problem: str) -> dict[str, Any] | None:
    """A receipt, if it is one of this problem; None if there is none.

    Raises
    ------
    RecordDamagedError
        There is something else.
    """
    if found is None:
        return None  # deleted while we look: the output is being replaced
    good = (
        isinstance(found, dict)
        and (found.get("tile"), found.get("problem")) == (path.stem, problem)
        and all(isinstance(found.get(key), str) for key in ("digest", "worker"))
        and isinstance(found.get("seconds"), dict)
        and receipt_box(found) is not None
    )
    if not good:
        raise RecordDamagedError(f"{path} is damaged: it is no receipt of {path.stem}")
    receipt: dict[str, Any] = found
    return receipt


def receipt_box(receipt: Mapping[str, Any]) -> Box | None:
    """The voxels that a receipt is for; None if it does not say."""
    match receipt.get("start"), receipt.get("stop"):
        case [int(z0), int(y0), int(x0)], [int(z1), int(y1), int(x1)]:
            if all(0 <= a < b for a, b in ((z0, z1), (y0, y1), (x0, x1))):
                return Box((z0, y0, x0), (z1, y1, x1))
    return None


def _text(value: Any) -> str:
    """A value as the text of a file."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False, default=_plain) + "\n"


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
