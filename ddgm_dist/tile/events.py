"""What an engine is, and the events and receipts it reports."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Event",
    "FaultEvent",
    "PoolEvent",
    "Receipt",
    "Report",
    "SaveEvent",
    "StepEvent",
    "Timer",
]


@dataclass(frozen=True)
class StepEvent:
    """One iteration of one block of rows is done.

    Attributes
    ----------
    tile, iteration
        Which; iterations count from 0.
    sigma
        Noise level.
    residual
        Squared residual over the measured samples before the gradient phase, normalised units.
    measured
        Number of measured samples.
    voxels
        That the tile owns: no padding, no halo. Those of all tiles make up the volume.
    seconds
        By phase: gradient, noise, denoise.
    worker
        Who did it.
    started
        When, seconds since the epoch.
    """

    tile: str
    iteration: int
    sigma: float
    residual: float
    measured: float
    voxels: int
    seconds: dict[str, float]
    worker: str = "local"
    started: float = 0.0


@dataclass(frozen=True)
class SaveEvent:
    """A checkpoint of one tile is written.

    Attributes
    ----------
    tile, iteration
        Which; ``iteration`` iterations are done in it.
    bytes
        Written, before compression.
    seconds
        It took.
    worker, started
        Who, and when (seconds since the epoch).
    """

    tile: str
    iteration: int
    bytes: int
    seconds: float
    worker: str = "local"
    started: float = 0.0


@dataclass(frozen=True)
class FaultEvent:
    """Something was lost, and what was done about it.

    Attributes
    ----------
    kind
        ``worker-lost``, ``preempted``, ``unavailable``, ``object-lost``, ``out-of-memory``,
        ``store-full``, ``storage``, ``stalled``, ``draining``, ``checkpoint-damaged``,
        ``start-failed``, ``other-versions`` or ``mixed-processors``.
    worker, tile
        Where; empty when it concerns none.
    action
        What was decided.
    detail
        One line of the error.
    time
        Seconds since the epoch.
    """

    kind: str
    worker: str
    tile: str
    action: str
    detail: str
    time: float


# Phases that step events tell of; a receipt tells of them once more, in its sum over the tile.
_STEP_PHASES = frozenset({"gradient", "noise", "denoise"})


@dataclass(frozen=True)
class Receipt:
    """A tile is written.

    Attributes
    ----------
    tile
        Its name.
    digest
        Of the written block.
    seconds
        Wall time by phase.
    worker
        Who did it.
    started
        When the tile's work began, seconds since the epoch.
    work
        Voxels that it owns times iterations; 0 when unknown.
    """

    tile: str
    digest: str
    seconds: dict[str, float]
    worker: str
    started: float = 0.0
    work: int = 0

    @property
    def more(self) -> dict[str, float]:
        """The seconds that no step event has told of: reading, waiting, writing."""
        return {k: v for k, v in self.seconds.items() if k not in _STEP_PHASES}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "tile": self.tile,
            "digest": self.digest,
            "seconds": self.seconds,
            "worker": self.worker,
        }


@dataclass(frozen=True)
class PoolEvent:
    """How many work, and how far they are; reported now and then.

    Attributes
    ----------
    workers
        Ready.
    least, most
        Iterations done in coupled tiles that are under way; None when there are none.
    time
        Seconds since the epoch.
    """

    workers: int
    least: int | None
    most: int | None
    time: float


Event = StepEvent | SaveEvent | FaultEvent | Receipt | PoolEvent


# Called in the driver for every event, in no particular order.
Report = Callable[[Event], None]


@dataclass
class Timer:
    """Adds up wall time by phase."""

    seconds: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.perf_counter)

    def lap(self, phase: str) -> float:
        """Book the time since the last call under ``phase``; returns it."""
        now = time.perf_counter()
        elapsed, self._last = now - self._last, now
        self.seconds[phase] = self.seconds.get(phase, 0.0) + elapsed
        return elapsed

    def add(self, seconds: Mapping[str, float]) -> None:
        """Book what others measured since the last call, and begin anew."""
        for phase, value in seconds.items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + value
        self._last = time.perf_counter()
