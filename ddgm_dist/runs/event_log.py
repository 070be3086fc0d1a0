"""What a run leaves to read while it goes and afterwards: its log of events and its progress.

Both lie in the output store. The log, ``events/``, has every event as a line of JSON. ``progress.json``
is replaced every few seconds: how far the run is, how fast, with how many workers, what was lost.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from ddgm_dist.engine.faults import Action
from ddgm_dist.errors import StorageError
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.runs.progress import Tally
from ddgm_dist.tile.events import Event, FaultEvent, PoolEvent, Receipt, SaveEvent, StepEvent

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
# What engines do about a fault that costs a worker.
_LOSSES = {Action.REPLACE, Action.THROTTLE}
# Lines kept for a store that cannot be written for a while; then the oldest are given up.
_KEPT = 100_000


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
        self._heard: float | None = None
        # When work began: starting the workers is not slow work.
        self._working: float | None = None
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
            self._lines.append({"event": name, "session": self.session, **vars(event)})
            self._heard = time.time()
        if isinstance(event, StepEvent) and self._working is None:
            self._working = time.time() - sum(event.seconds.values())
        if isinstance(event, Receipt):
            self.tiles_done += 1
        if isinstance(event, FaultEvent) and event.action in _LOSSES:
            self._losses += 1
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self._write()

    def _write(self) -> None:
        self._flushed = time.monotonic()
        try:
            if self._lines:
                self.record.append_events(self.session, self._lines)
                self._lines = []
            self.record.write_json("progress", self.progress())
        except (StorageError, OSError) as error:
            del self._lines[:-_KEPT]
            if not self._told:
                log.warning("the log of events cannot be written: %s", error)
            self._told = True

    def progress(self) -> dict[str, Any]:
        """What ``progress.json`` says."""
        now = time.time()
        pool, last, coverage = self._pool, self.tally.last, self.tally.coverage
        return {
            "session": self.session,
            "started": self.started,
            "updated": now,
            "voxels_done": min(self.total, self.before + coverage.done),
            "voxels_total": self.total,
            "rate": coverage.voxels / max(now - (self._working or now), 1e-3),
            "workers": pool.workers,
            "losses": self._losses,
            "repeated": coverage.repeated,
            "iterations": None if pool.least is None else [pool.least, pool.most],
            "tiles_done": self.tiles_done,
            "tiles": self.tiles,
            "last_event": self._heard,
            "iteration": None if last is None else last.iteration,
            "sigma": None if last is None else last.sigma,
            "residual": None if last is None else _finite(self.tally.residual(last.iteration)),
        }


def tell(event: Event) -> None:
    """Log one event, with the tile, iteration and worker as fields of the record."""
    extra: dict[str, str | int | None]
    if isinstance(event, FaultEvent):
        extra = {"tile": event.tile, "worker": event.worker, "iteration": None}
        log.warning("%s: %s (%s)", event.kind, event.action, event.detail, extra=extra)
    elif isinstance(event, StepEvent):
        extra = {"tile": event.tile, "worker": event.worker, "iteration": event.iteration}
        log.debug("iteration done", extra=extra)
    elif isinstance(event, SaveEvent):
        extra = {"tile": event.tile, "worker": event.worker, "iteration": event.iteration}
        log.info("checkpoint of %d bytes in %.2f s", event.bytes, event.seconds, extra=extra)
    elif isinstance(event, Receipt):
        extra = {"tile": event.tile, "worker": event.worker, "iteration": None}
        log.info("tile written", extra=extra)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
