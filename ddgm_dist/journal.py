"""What a run leaves to read while it goes and afterwards: its log of events and its progress.

Both lie in the output store. The log, ``events/``, has every event as a line of JSON. ``progress.json``
is replaced every few seconds: how far the run is, how fast, with how many workers, what was lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any

from ddgm_dist.engine.base import Event, FaultEvent, PoolEvent, Receipt, SaveEvent, StepEvent
from ddgm_dist.errors import StorageError
from ddgm_dist.progress import Tally
from ddgm_dist.storage.run_record import RunRecord

__all__ = ["Journal"]

FLUSH_SECONDS = 5.0

log = logging.getLogger("ddgm_dist")

_NAMES: Mapping[type, str] = {
    StepEvent: "step",
    SaveEvent: "save",
    FaultEvent: "fault",
    Receipt: "tile",
    PoolEvent: "pool",
}
# Of faults, those that cost a worker.
_LOSSES = {"worker-lost", "preempted", "stalled", "out-of-memory", "unavailable"}


class Journal:
    """Takes the events of one session; a context manager.

    It never stops a run: what cannot be written is told once, through `logging`.

    Parameters
    ----------
    record
        Of the output store.
    session
        Name of this driver's run.
    tally
        Sums over the events.
    total
        Voxels times iterations of the whole volume.
    before
        Of these, what earlier sessions finished.
    tiles, tiles_done
        In the plan; finished before.
    """

    def __init__(
        self,
        record: RunRecord,
        session: str,
        tally: Tally,
        *,
        total: int,
        before: int,
        tiles: int,
        tiles_done: int,
    ) -> None:
        self.record, self.session, self.tally = record, session, tally
        self.total, self.before, self.tiles, self.tiles_done = total, before, tiles, tiles_done
        self.started = time.time()
        self._lines: list[dict[str, Any]] = []
        self._pool = PoolEvent(0, None, None, self.started)
        self._losses = 0
        self._flushed = time.monotonic()
        self._told = False

    def __enter__(self) -> Journal:
        self._write()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._write()

    def __call__(self, event: Event) -> None:
        """Take one event; every few seconds what has come is written."""
        tell(event)
        if isinstance(event, PoolEvent):
            self._pool = event
        else:
            name = _NAMES[type(event)]
            self._lines.append({"event": name, "session": self.session, **asdict(event)})
        if isinstance(event, Receipt):
            self.tiles_done += 1
        if isinstance(event, FaultEvent) and event.kind in _LOSSES and "replace" in event.action:
            self._losses += 1
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self._write()

    def _write(self) -> None:
        self._flushed = time.monotonic()
        lines, self._lines = self._lines, []
        try:
            if lines:
                self.record.append_events(self.session, lines)
            self.record.write_json("progress", self.progress())
        except StorageError as error:
            if not self._told:
                log.warning("the log of events cannot be written: %s", error)
            self._told = True

    def progress(self) -> dict[str, Any]:
        """What ``progress.json`` says."""
        now = time.time()
        pool = self._pool
        return {
            "session": self.session,
            "started": self.started,
            "updated": now,
            "voxels_done": min(self.total, self.before + self.tally.voxels),
            "voxels_total": self.total,
            "rate": self.tally.voxels / max(now - self.started, 1e-3),
            "workers": pool.workers,
            "losses": self._losses,
            "repeated": self.tally.repeated,
            "iterations": None if pool.least is None else [pool.least, pool.most],
            "tiles_done": self.tiles_done,
            "tiles": self.tiles,
        }


def tell(event: Event) -> None:
    """Log one event, with the tile, iteration and worker as fields of the record."""
    if isinstance(event, FaultEvent):
        extra = {"tile": event.tile, "worker": event.worker, "iteration": None}
        log.warning("%s: %s (%s)", event.kind, event.action, event.detail, extra=extra)
    elif isinstance(event, StepEvent | SaveEvent):
        extra = {"tile": event.tile, "worker": event.worker, "iteration": str(event.iteration)}
        what = "checkpoint" if isinstance(event, SaveEvent) else "iteration"
        log.debug("%s %d of %s", what, event.iteration, event.tile, extra=extra)
    elif isinstance(event, Receipt):
        extra = {"tile": event.tile, "worker": event.worker, "iteration": None}
        log.info("written: %s", event.tile, extra=extra)
