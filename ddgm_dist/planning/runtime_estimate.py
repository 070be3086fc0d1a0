"""Projected run time of a plan, from measured times of its steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ddgm_dist.core.units import format_duration

__all__ = ["EFFICIENCY", "RuntimeEstimate"]

# Efficiency of several workers on one machine, which share memory and caches. Tests of the engine
# reach it: two workers of one thread are 1.8 times as fast as one.
EFFICIENCY = 0.9


@dataclass(frozen=True)
class RuntimeEstimate:
    """Projected times of a run, seconds.

    Attributes
    ----------
    seconds
        Worker seconds by phase, over all tiles and iterations.
    building
        Seconds in the driver to read the series and to build the problem.
    start
        Seconds of each worker before its first tile: the operator's basis, loading the network.
    workers, threads
        Number of workers, and of torch's threads in each.
    units
        Number of tiles that can be computed at the same time.
    """

    seconds: Mapping[str, float]
    building: float
    start: float
    workers: int
    threads: int
    units: int

    @property
    def total(self) -> float:
        """Worker seconds of all phases."""
        return sum(self.seconds.values())

    @property
    def efficiency(self) -> float:
        """Share of the workers' time that is used; assumed for several."""
        return 1.0 if self.workers == 1 else EFFICIENCY

    @property
    def wall(self) -> float:
        """Seconds from the call to the finished volume, without starting Ray.

        The last round of tiles may leave workers idle.
        """
        busy = min(self.workers, self.units)
        rounds = math.ceil(self.units / busy) * busy / self.units
        return self.building + self.start + self.total * rounds / busy / self.efficiency

    def describe(self) -> dict[str, str]:
        """The estimate as lines of text, by name."""
        spent = ", ".join(
            f"{phase} {format_duration(value)}" for phase, value in self.seconds.items()
        )
        return {
            "worker time": f"{format_duration(self.total)} ({spent}), and "
            f"{format_duration(self.start)} per worker",
            "expected time": f"{format_duration(self.wall)} with {self.workers} "
            f"worker{'s' if self.workers > 1 else ''} of {self.threads} "
            f"thread{'s' if self.threads > 1 else ''} as fast as this machine now"
            + (f", {100 * self.efficiency:.0f} % of them busy" if self.workers > 1 else ""),
        }

    def to_dict(self) -> dict[str, Any]:
        """The estimate as plain JSON values."""
        return {
            "worker_seconds": dict(self.seconds),
            "building": self.building,
            "start_per_worker": self.start,
            "workers": self.workers,
            "threads": self.threads,
            "efficiency": self.efficiency,
            "wall_seconds": self.wall,
        }
