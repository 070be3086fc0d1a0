"""What stands beside a result: its state, the receipts of finished tiles, the log of events.

Everything lies in the folder ``ddgm_dist`` of the output store. Files are replaced atomically, so
whatever interrupts a run, each file is either the old one or the new one. A missing shard reads
as NaN without an error; the receipts say which tiles are finished, and ``state.json`` says whether
the volume may be taken for whole: ``{"state": "running" | "complete", "problem": <hash>}``.

What one problem's workers write lies in folders named by the problem's hash (`problem_dir`): a worker
that was cut off may go on writing when the output belongs to another problem, and must not be mistaken.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ddgm_dist.errors import StorageError
from ddgm_dist.paths.claim import SIDECAR
from ddgm_dist.paths.files import delete, delete_folder, get_with_etag, listdir, read_all
from ddgm_dist.paths.place import Place
from ddgm_dist.records.damage import OutputReplacedError, RecordDamagedError, log_damage
from ddgm_dist.records.json_files import (
    NAME,
    finite_value,
    is_safe,
    parse_json,
    plain_value,
    problem_dir,
    read_file,
    replace_text,
    replace_text_if,
    to_json,
)
from ddgm_dist.records.receipts import RECEIPTS, as_receipt
from ddgm_dist.records.replacement import content_of

__all__ = ["COMPLETE", "RUNNING", "SAMPLES", "STD", "RunRecord", "log"]


RUNNING, COMPLETE = "running", "complete"


SAMPLES, STD = "samples", "std"


_PROBLEM, _STATE, _EVENTS = "problem.json", "state.json", "events"


# Receipts read at a time: there may be a million of them.
_BATCH = 1000


# Times that a file may be replaced by others between look and write.
_LOOKS = 10


log = logging.getLogger("ddgm_dist")


class RunRecord:
    """The sidecar files of one output store.

    Parameters
    ----------
    path
        The output store (``OUT.zarr``); its folder ``ddgm_dist`` is made on the first write.
    """

    def __init__(self, path: Place) -> None:
        self.folder: Place = content_of(path) / SIDECAR
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
        replace_text(self._path(name), to_json(value))

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
        return parse_json(path, read_file(path))

    def has(self, name: str) -> bool:
        """Whether there is something under ``name``, be it damaged."""
        return read_file(self._path(name)) is not None

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
                data, stamp = get_with_etag(path)
            except OSError as error:
                raise StorageError(f"{path} cannot be read: {error}") from error
            found = None
            with log_damage():
                found = parse_json(path, data)
            value = change(found)
            if value is None or replace_text_if(path, to_json(value), stamp):
                return
        raise StorageError(f"{path} is replaced by others again and again; who writes there?")

    def _path(self, name: str) -> Place:
        *folders, last = (is_safe(part) for part in name.split("/"))
        if len(folders) > 2:
            raise ValueError(f"{name!r} has more than two folders")
        return self.folder / "/".join([*folders, f"{last.removesuffix('.json')}.json"])

    def _folder(self, name: str) -> Place:
        return self.folder / "/".join(is_safe(part) for part in name.split("/"))

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
        if found is not None and not re.fullmatch(NAME, found["problem"]):
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
        folder = problem_dir(kind, str(receipt.get("problem", "")))
        self.write_json(f"{folder}/{is_safe(str(receipt.get('tile', '')))}", receipt)

    def receipt(self, tile: str, problem: str, kind: str = RECEIPTS) -> dict[str, Any] | None:
        """The receipt of a tile, if it has one that is whole."""
        with log_damage():
            path = f"{problem_dir(kind, problem)}/{tile}"
            return as_receipt(self._path(path), self.read_json(path), problem)
        return None

    def receipts(self, problem: str, kind: str = RECEIPTS) -> Iterator[dict[str, Any]]:
        """Receipts of a problem, by name of tile; damaged ones are told, and count for nothing."""
        for path, data in self._files(problem_dir(kind, problem), ".json"):
            receipt = None
            with log_damage():
                receipt = as_receipt(path, parse_json(path, data), problem)
            if receipt is not None:
                yield receipt

    def _files(self, folder: str, suffix: str) -> Iterator[tuple[Place, bytes | None]]:
        """The files in one of the record's folders, with what they hold; sorted by name."""
        inside = self._folder(folder)
        found = [name for name in listdir(inside) if _is_whole(name, suffix)]
        for first in range(0, len(found), _BATCH):
            paths = [inside / name for name in found[first : first + _BATCH]]
            try:
                yield from zip(paths, read_all(paths), strict=True)
            except OSError as error:
                raise StorageError(f"{inside} cannot be read: {error}") from error

    def names(self, folder: str) -> list[str]:
        """Names of the JSON files in one of the record's folders, without ``.json``."""
        found = listdir(self._folder(folder))
        return [name.removesuffix(".json") for name in found if _is_whole(name, ".json")]

    def delete_others(self, kind: str, problem: str) -> None:
        """Delete what other problems than this left of a kind, as far as it can be deleted."""
        for name in listdir(self._folder(kind)):
            if (inside := f"{kind}/{name}") != problem_dir(kind, problem):
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
        lines = [
            json.dumps(finite_value(event), allow_nan=False, default=plain_value)
            for event in events
        ]
        number = self._segments.setdefault(session, 0)
        self._segments[session] = number + 1
        name = f"{is_safe(session)}-{number:06d}.jsonl"
        replace_text(self.folder / _EVENTS / name, "\n".join(lines) + "\n")

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


def _is_whole(name: str, suffix: str) -> bool:
    """Whether a file is of a kind, and not one that a killed writer left half-written."""
    return name.endswith(suffix) and not name.startswith(".")
