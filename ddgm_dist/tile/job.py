"""A job: a problem, a plan, and where to read and write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddgm_dist.paths.place import Place
from ddgm_dist.planning.plan import Plan
from ddgm_dist.planning.problem import Problem
from ddgm_dist.tilts.record import Kept

__all__ = ["Job"]


@dataclass(frozen=True)
class Job:
    """Everything a worker needs, as plain picklable values.

    Attributes
    ----------
    problem, plan
        The problem, and its cut into tiles.
    tilts, out
        Places of the tilt-series store and the output store.
    digest
        Hash of the problem.
    checkpoint_every
        Seconds between checkpoints of unfinished tiles.
    state
        Whether the states of coupled tiles stay with the workers; see :meth:`resident`.
    memory
        Bytes that one worker may use; None when unknown.
    reserve
        Bytes that a scheduler sets aside for each worker; None when the user gave no number.
    device
        ``cpu``, ``cuda`` or ``auto``.
    name
        Name of the output, for people and for metrics; the last part of ``out`` if empty.
    tilts_identity
        Identity of the tilt series that the problem was made of (``TiltSeries.identity``). A worker
        that finds another one in its place refuses it. None accepts any.
    tilts_record
        Where the run keeps a record of the tilt series, if its writer left none.
    """

    problem: Problem
    plan: Plan
    tilts: Place
    out: Place
    digest: str
    checkpoint_every: float = 300.0
    state: Literal["auto", "memory", "store"] = "auto"
    memory: int | None = None
    reserve: int | None = None
    device: str = "auto"
    name: str = ""
    tilts_identity: str | None = None
    tilts_record: Kept | None = None

    @property
    def cache(self) -> int:
        """Bytes of data that a worker keeps of tiles whose states go through the store."""
        return self.plan.cached(self.memory) * self.plan.memory.data

    def resident(self, workers: int) -> bool:
        """Return whether the tiles of the widest group fit the workers' memory all at once.

        If so, their states stay there and halos go from worker to worker. Otherwise both go through
        the store at each iteration. The result is the same.
        """
        if self.state != "auto" or self.memory is None:
            return self.state != "store"
        return self.plan.resident(workers, self.memory)
