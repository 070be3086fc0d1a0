"""Files that a run writes into its output store on its way: the log of events, and its progress.

The log, ``events/``, has every event as a line of JSON. ``progress.json`` is replaced every few seconds:
how far the run is, how fast, with how many workers, what was lost.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from ddgm_dist.engine.tally import Tally
from ddgm_dist.errors import StorageError
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.tile.events import Event, FaultEvent, PoolEvent, Receipt, SaveEvent, StepEvent

__all__ = ["EventLog"]

FLUSH_SECONDS = 5.0

log = logging.getLogger("ddgm_dist")

_NAMES: Mapping[type, str] = {
    StepEvent: "step",
    SaveEvent: "save",
    FaultEvent: "fault",
    Receipt: "tile",
    PoolEvent: "pool",
}
# Lines kept for a store that cannot be written for a while; then the oldest are given up.
_KEPT = 100_000


class EventLog:
    """Writes the events of one session; a context manager.

    It never stops a run: what cannot be written is reported once, through `logging`.

    Parameters
    ----------
    record
        Record of the output store.
    session
        Name of this driver's run.
    tally
        The figures of the session, which has counted an event before it comes here.
    """

    def __init__(self, record: RunRecord, session: str, tally: Tally) -> None:
        self.record, self.session, self.tally = record, session, tally
        self._lines: list[dict[str, Any]] = []
        self._flushed = time.monotonic()
        self._failed = False

    def __enter__(self) -> EventLog:
        self._write()
        return self

    def __exit__(self, *error: object) -> None:
        self._write()

    def __call__(self, event: Event) -> None:
        """Take one event; every few seconds those that have come are written."""
        log_event(event)
        if not isinstance(event, PoolEvent):
            name = _NAMES[type(event)]
            self._lines.append({"event": name, "session": self.session, **vars(event)})
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
            if not self._failed:
                log.warning("the log of events cannot be written: %s", error)
            self._failed = True

    def progress(self) -> dict[str, Any]:
        """The content of ``progress.json``."""
        tally, last = self.tally, self.tally.last
        residual = math.nan if last is None else tally.residual(last.iteration)
        return {
            "session": self.session,
            "started": tally.started,
            "updated": time.time(),
            "voxels_done": tally.done,
            "voxels_total": tally.total,
            "rate": tally.rate,
            "workers": tally.workers,
            "losses": tally.losses,
            "repeated": tally.coverage.repeated,
            "iterations": tally.span,
            "tiles_done": tally.tiles_done,
            "tiles": tally.tiles,
            "last_event": tally.last_event,
            "iteration": None if last is None else last.iteration,
            "sigma": None if last is None else last.sigma,
            "residual": residual if math.isfinite(residual) else None,
        }


def log_event(event: Event) -> None:
    """Log one event, with the tile, iteration and worker as fields of the record."""
    if isinstance(event, PoolEvent):
        return
    iteration = event.iteration if isinstance(event, StepEvent | SaveEvent) else None
    extra = {"tile": event.tile, "worker": event.worker, "iteration": iteration}
    match event:
        case FaultEvent():
            log.warning("%s: %s (%s)", event.kind, event.action, event.detail, extra=extra)
        case StepEvent():
            log.debug("iteration done", extra=extra)
        case SaveEvent():
            log.info("checkpoint of %d bytes in %.2f s", event.bytes, event.seconds, extra=extra)
        case Receipt():
            log.info("tile written", extra=extra)
