"""What a run needs of a cluster: workers, and what each of them takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddgm_dist.errors import InputError

if TYPE_CHECKING:
    from ddgm_dist.plan.plan import Plan

__all__ = ["GIB", "MIB", "Resources", "resources_of"]

MIB, GIB = 2**20, 2**30

# The planner's projection is of one process that computes; docs/planner.md has how near it comes.
HEADROOM = 1.1
_STEP = 256 * MIB


@dataclass(frozen=True)
class Resources:
    """What a run needs.

    Attributes
    ----------
    workers
        Ray actors that solve tiles.
    tiles
        Things to do; more workers than that are of no use.
    cpus
        CPUs of one worker.
    memory
        Bytes of host memory of one worker: what ``reconstruct --memory`` is given.
    gpus
        GPUs of one worker, 0 or 1.
    gpu_memory
        Bytes on the worker's GPU, projected; 0 without GPUs.
    """

    workers: int
    tiles: int
    cpus: int
    memory: int
    gpus: int = 0
    gpu_memory: int = 0

    def __post_init__(self) -> None:
        for name in ("workers", "tiles", "cpus", "memory"):
            if (value := getattr(self, name)) < 1:
                raise InputError(name, value, "must be at least 1")
        if self.gpus not in (0, 1):
            raise InputError(
                "gpus", self.gpus, "a worker computes on one GPU or on none", "give 0 or 1"
            )

    def per_node(self, gpus_per_node: int) -> int:
        """Workers that share a node: one per GPU; one alone where there are none."""
        return max(1, gpus_per_node) if self.gpus else 1

    def nodes(self, gpus_per_node: int) -> int:
        """Nodes that the workers fill."""
        return math.ceil(self.workers / self.per_node(gpus_per_node))


def resources_of(plan: Plan, *, cpus: int, gpus: int = 0, memory: int | None = None) -> Resources:
    """What a plan needs, for as many workers as it was made for.

    Parameters
    ----------
    plan
        Of the run, made for its number of workers.
    cpus, gpus
        Of one worker.
    memory
        Bytes of one worker; by default what the plan projects, a tenth more, in steps of 256 MiB.

    Raises
    ------
    InputError
        ``memory`` is less than the plan projects.
    """
    projected = plan.worker_memory
    if memory is not None and memory < projected:
        raise InputError(
            "memory",
            f"{memory / GIB:.3g} GiB",
            f"is less than the {projected / GIB:.3g} GiB that the plan projects for a worker",
            "make the plan for this memory, or give more",
        )
    kept = plan.kept(plan.workers) if plan.state == "resident" else 0
    return Resources(
        workers=min(plan.workers, plan.units),
        tiles=plan.units,
        cpus=cpus,
        memory=memory or math.ceil(projected * HEADROOM / _STEP) * _STEP,
        gpus=gpus,
        gpu_memory=plan.memory.gpu(kept) if gpus else 0,
    )
