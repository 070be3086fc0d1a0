"""Reports of a worker on its tiles: events while they are solved, and a receipt at the end."""

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
    """One iteration of one tile is done.

    Attributes
    ----------
    tile, iteration
        Name of the tile; iterations count from 0.
    sigma
        Noise level.
    residual
        Squared residual over the measured samples before the gradient phase, normalised units.
    measured
        Number of measured samples.
    voxels
        Voxels that the tile owns, without padding and halo: those of all tiles make up the volume.
    seconds
        Wall time by phase: gradient, noise, denoise; restore, of a first step that began with it; of
        coupled tiles also what came before.
    worker
        Name of the worker.
    started
        Start of the computation, seconds since the epoch.
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
        Name of the tile; iterations that are done in the checkpoint.
    bytes
        Size before compression.
    seconds
        Wall time, seconds.
    worker, started
        Name of the worker; when the write began, seconds since the epoch.
    """

    tile: str
    iteration: int
    bytes: int
    seconds: float
    worker: str = "local"
    started: float = 0.0


@dataclass(frozen=True)
class FaultEvent:
    """Something was lost or failed, and what the engine does about it.

    Attributes
    ----------
    kind
        ``worker-lost``, ``preempted``, ``unavailable``, ``object-lost``, ``out-of-memory``,
        ``store-full``, ``storage``, ``stalled``, ``draining``, ``checkpoint-damaged``,
        ``start-failed``, ``other-versions`` or ``mixed-processors``.
    worker, tile
        Names; empty when the fault concerns none.
    action
        Action of the engine.
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

    @classmethod
    def checkpoint_damaged(cls, worker: str, tile: str, error: Exception) -> FaultEvent:
        """A checkpoint that cannot be loaded, where the one before is tried next."""
        action = "go back to the checkpoint before"
        return cls("checkpoint-damaged", worker, tile, action, str(error), time.time())


# Phases in the seconds of an uncoupled tile's step events; its receipt has their sums once more.
_STEP_PHASES = frozenset({"restore", "gradient", "noise", "denoise"})


@dataclass(frozen=True)
class Receipt:
    """A tile is written.

    Attributes
    ----------
    tile
        Name of the tile.
    digest
        Digest of the written block.
    seconds
        Wall time by phase.
    worker
        Name of the worker.
    started
        Start of the tile's work, seconds since the epoch.
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
    def seconds_besides_steps(self) -> dict[str, float]:
        """Seconds that are in no step event: reading, waiting, writing."""
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
    """Number of workers and progress of coupled tiles, reported now and then.

    Attributes
    ----------
    workers
        Workers that are ready.
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

    def lap(self, phase: str) -> None:
        """Add the time since the last call to ``phase``."""
        self.add({phase: time.perf_counter() - self._last})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add what was measured since the last call, and begin anew."""
        for phase, value in seconds.items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + value
        self._last = time.perf_counter()
