"""What an engine is, and the events and receipts it reports."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ddgm_dist.plan.plan import Plan
from ddgm_dist.plan.problem import Problem

__all__ = [
    "Engine",
    "Event",
    "FaultEvent",
    "Job",
    "PoolEvent",
    "Receipt",
    "Report",
    "SaveEvent",
    "StepEvent",
    "Timer",
]


@dataclass(frozen=True)
class Job:
    """Everything a worker needs, as plain picklable values.

    Attributes
    ----------
    problem, plan
        What and how.
    tilts, out
        Paths of the tilt-series store and the output store.
    digest
        Hash of the problem.
    checkpoint_every
        Seconds between checkpoints of unfinished tiles.
    state
        Whether the states of coupled tiles stay with the workers; see :meth:`resident`.
    memory
        Bytes one worker may use; None when unknown.
    reserve
        Bytes that a scheduler is to set aside for each worker, if the user said.
    device
        ``cpu``, ``cuda`` or ``auto``.
    name
        Of the output, for people and for metrics; the last part of ``out`` if empty.
    tilts_identity
        Of the tilt series that the problem was made of (``TiltSeries.identity``); a worker that finds
        another one in its place refuses it. None: it is not looked at.
    """

    problem: Problem
    plan: Plan
    tilts: str
    out: str
    digest: str
    checkpoint_every: float = 300.0
    state: Literal["auto", "resident", "streamed"] = "auto"
    memory: int | None = None
    reserve: int | None = None
    device: str = "auto"
    name: str = ""
    tilts_identity: str | None = None

    @property
    def cache(self) -> int:
        """Bytes of measurements that a worker keeps of streamed tiles: as many as fit."""
        return self.plan.cached(self.memory) * self.plan.memory.data

    def resident(self, workers: int) -> bool:
        """Whether the tiles of the widest group fit the workers' memory all at once.

        Then their states stay there and halos go from worker to worker; otherwise both go through
        the store at each iteration. The result is the same.
        """
        if self.state != "auto" or self.memory is None:
            return self.state != "streamed"
        return self.plan.resident(workers, self.memory)


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


class Engine(Protocol):
    """Where a plan is computed."""

    @property
    def name(self) -> str:
        """``local`` or ``ray``."""

    @property
    def workers(self) -> int:
        """How many tiles are computed at the same time."""

    def budget(self, asked: int | None) -> int | None:
        """Bytes that a worker may use: what was asked for, if it is there, or what there is.

        None when that is unknown.
        """

    def connected(self) -> contextlib.AbstractContextManager[None]:
        """What the engine needs, for the time of a run; fails at once if it is not there."""

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        """Compute and write every tile whose name is not in ``done``."""


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
