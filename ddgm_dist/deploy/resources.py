"""Resources that a run needs of a cluster: workers, and memory, CPUs and GPUs of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ddgm_dist.core.units import GIB, MIB
from ddgm_dist.errors import InputError

if TYPE_CHECKING:
    from ddgm_dist.planning.plan import Plan

__all__ = ["Resources", "quantity", "resources_of"]

# The planner projects the memory of one worker process; docs/planner.md has its error.
HEADROOM = 1.1
_STEP = 256 * MIB


@dataclass(frozen=True)
class Resources:
    """Resources of a run.

    Attributes
    ----------
    workers
        Number of Ray actors that solve tiles.
    tiles
        Number of tiles, which bounds the useful number of workers.
    cpus
        CPUs of one worker.
    memory
        Bytes of host memory of one worker, given to ``reconstruct --memory``.
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
        """Number of workers on a node: one per GPU, or one if there are none."""
        return max(1, gpus_per_node) if self.gpus else 1

    def nodes(self, gpus_per_node: int) -> int:
        """Number of nodes that the workers fill."""
        return math.ceil(self.workers / self.per_node(gpus_per_node))


def quantity(size: int) -> str:
    """Bytes as a quantity of Kubernetes: whole Gi if possible, else Mi rounded up."""
    return f"{size // GIB}Gi" if size % GIB == 0 else f"{math.ceil(size / MIB)}Mi"


def resources_of(plan: Plan | Mapping[str, Any], *, cpus: int, gpus: int = 0) -> Resources:
    """Resources that a plan needs, for the number of workers that it was made for.

    Memory is what the plan was made for; where that is open, what it projects, a tenth more, in
    steps of 256 MiB.

    Parameters
    ----------
    plan
        Of the run, made for its number of workers; or what ``ddgm-dist plan --json`` printed.
    cpus, gpus
        Of one worker.

    Raises
    ------
    InputError
        It is not a plan.
    """
    summary = plan if isinstance(plan, Mapping) else plan.to_dict()
    try:
        tiles, workers = int(summary["tiles"]), int(summary["workers"])
        memory: Mapping[str, Any] = summary["memory"]
        projected, gpu, budget = int(memory["worker"]), int(memory["gpu"]), memory["budget"]
        given = None if budget is None else int(budget)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "plan",
            type(summary).__name__,
            f"is not a plan ({type(error).__name__}: {error})",
            "write one with ddgm-dist plan TILTS.zarr --workers N --json",
        ) from error
    return Resources(
        workers=min(workers, tiles),
        tiles=tiles,
        cpus=cpus,
        memory=given or math.ceil(projected * HEADROOM / _STEP) * _STEP,
        gpus=gpus,
        gpu_memory=gpu if gpus else 0,
    )
