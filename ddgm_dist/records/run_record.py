"""The record of a run beside its result: its state, receipts of finished tiles, the log of events.

All files lie in the folder ``ddgm_dist`` of the output store. A missing shard reads as NaN without an
error. So the receipts say which tiles are finished, and ``state.json`` says whether the volume is whole:
``{"state": "running" | "complete", "problem": <hash>}``.

Files of one problem's workers lie in folders named by the problem's hash (`problem_dir`). A worker that
was cut off may still write when the output belongs to another problem. Its files are then not mistaken
for those of the other problem.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ddgm_dist.paths.claim import SIDECAR
from ddgm_dist.paths.files import listdir
from ddgm_dist.paths.place import Place
from ddgm_dist.records.damage import OutputReplacedError, RecordDamagedError, log_damage
from ddgm_dist.records.json_files import (
    NAME,
    JsonFolder,
    finite_value,
    is_safe,
    parse_json,
    plain_value,
    problem_dir,
    replace_text,
)
from ddgm_dist.records.receipts import RECEIPTS, as_receipt
from ddgm_dist.records.replacement import content_of

__all__ = ["COMPLETE", "RUNNING", "SAMPLES", "STD", "RunRecord", "log"]


RUNNING, COMPLETE = "running", "complete"
SAMPLES, STD = "samples", "std"
_PROBLEM, _STATE, _EVENTS = "problem.json", "state.json", "events"
log = logging.getLogger("ddgm_dist")


class RunRecord(JsonFolder):
    """The sidecar files of one output store.

    Parameters
    ----------
    path
        The output store (``OUT.zarr``); its folder ``ddgm_dist`` is made on the first write.
    """

    def __init__(self, path: Place) -> None:
        super().__init__(content_of(path) / SIDECAR)
        self._segments: dict[str, int] = {}

    def write_state(self, state: str, problem: str) -> None:
        """Record that the volume is ``running`` or ``complete``, and its problem (the hash)."""
        if state not in (RUNNING, COMPLETE):
            raise ValueError(f"state {state!r} is neither {RUNNING!r} nor {COMPLETE!r}")
        self.write_json(_STATE, {"state": state, "problem": problem})

    def read_state(self) -> dict[str, Any] | None:
        """The state that `write_state` wrote last, or None.

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
        """Read the problem that the output belongs to, or None.

        Raises
        ------
        RecordDamagedError
            The file is something else.
        """
        return self._essential(_PROBLEM)

    def _essential(self, name: str, *texts: str) -> dict[str, Any] | None:
        """A file that the run cannot do without: an object with some text fields."""
        try:
            found = self.read_json(name)
            good = isinstance(found, dict) and all(isinstance(found.get(t), str) for t in texts)
            if found is not None and not good:
                raise RecordDamagedError(f"{self.folder / name} is damaged: fields are missing")
        except RecordDamagedError as error:
            raise RecordDamagedError(
                f"{error}; put a good copy in its place (what is finished is kept), or begin anew "
                "with --overwrite"
            ) from None
        return found

    def check(self, problem: str) -> None:
        """Refuse an output that does not belong to a problem any more.

        Raises
        ------
        OutputReplacedError
            It belongs to another problem.
        """
        self._check(self.read_state(), problem)

    def complete(self, problem: str) -> None:
        """Record that the volume is ``complete``, if it is still this problem's; raises as `check`."""

        def completed(state: Any) -> dict[str, str]:
            self._check(state, problem)
            return {"state": COMPLETE, "problem": problem}

        self.check(problem)  # its error is the more exact one where the file is damaged
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
        """The receipt of a tile; None if it has none, or a damaged one."""
        with log_damage():
            path = f"{problem_dir(kind, problem)}/{tile}"
            return as_receipt(self._path(path), self.read_json(path), problem)
        return None

    def receipts(self, problem: str, kind: str = RECEIPTS) -> Iterator[dict[str, Any]]:
        """Receipts of a problem, sorted by tile; damaged ones are logged and left out."""
        for path, data in self._files(problem_dir(kind, problem), ".json"):
            receipt = None
            with log_damage():
                receipt = as_receipt(path, parse_json(path, data), problem)
            if receipt is not None:
                yield receipt

    def delete_others(self, kind: str, problem: str) -> None:
        """Delete the files of one kind that other problems left, as far as they can be deleted."""
        for name in listdir(self._folder(kind)):
            if (inside := f"{kind}/{name}") != problem_dir(kind, problem):
                self.delete_folder(inside)

    def append_events(self, session: str, events: Sequence[Mapping[str, Any]]) -> None:
        """Add lines to the log, as one file ``events/<session>-<k>.jsonl``; NaN becomes null.

        Each call writes a new file, so call it every few seconds only.

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
        """All events: sessions in the order of their begin, each in the order of its log.

        Lines that cannot be read are left out with a warning: no computation depends on the log.
        """
        sessions: dict[str, list[dict[str, Any]]] = {}
        for path, data in self._files(_EVENTS, ".jsonl"):  # None: the run was started anew
            sessions.setdefault(path.stem.rpartition("-")[0], []).extend(
                _segment(path, data or b"")
            )
        return [event for events in sorted(sessions.values(), key=_time) for event in events]


def _segment(path: Place, data: bytes) -> list[dict[str, Any]]:
    """Events of one file of the log; lines that cannot be read are left out."""
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
    """Time of the first event, seconds since 1970; 0 if it has none."""
    first = events[0] if events else {}
    time = first.get("time") or first.get("started")
    return float(time) if isinstance(time, int | float) else 0.0
