"""Division of a cluster's nodes among workers. Ray is not imported here."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from ddgm_dist.core.units import format_bytes
from ddgm_dist.errors import InputError
from ddgm_dist.tile.host import available_memory

__all__ = ["Shares", "memory_per_worker", "shares", "this_machine"]


def this_machine() -> dict[str, float]:
    """Resources of the node that Ray would start here, before it is started.

    Ray sets 30 % of the free memory aside for its object store. `available_memory` leaves 20 % to
    other processes. So Ray has seven eighths of it left.
    """
    found: dict[str, float] = {"CPU": os.cpu_count() or 1, "GPU": torch.cuda.device_count()}
    free = available_memory()
    return found if free is None else {**found, "memory": 7 * free // 8}


@dataclass(frozen=True)
class Shares:
    """Number of workers, and the resources that each asks of its node.

    Attributes
    ----------
    workers
        Number of workers.
    threads
        Threads of torch that each worker has.
    cpus, gpus
        Ray's resources per worker; fractions let more workers than CPUs start, if asked to.
    memory
        Bytes per worker; 0 asks for none.
    """

    workers: int
    threads: int
    cpus: float
    gpus: float
    memory: int


def shares(
    found: list[dict[str, float]], workers: int | None, useful: int, memory: int | None
) -> Shares:
    """Divide a cluster's nodes among workers.

    Parameters
    ----------
    found
        Resources of each node.
    workers
        Number asked for; None takes one per GPU, or per CPU where there is none, up to ``useful``.
    useful
        Number of tiles that can be computed at a time.
    memory
        Bytes that a worker is allowed; None when unknown.

    Raises
    ------
    InputError
        The cluster has too little.
    """
    gpus, cpus = (sum(node.get(kind, 0) for node in found) for kind in ("GPU", "CPU"))
    count = workers or max(1, min(int(gpus or cpus), useful))
    if cpus <= 0:
        raise InputError(
            "workers",
            count,
            "need at least a part of a CPU each, and the cluster has none for them "
            f"({_list(found)})",
            "start nodes with CPUs (--num-cpus of `ray start`)",
        )
    threads = max(1, int(cpus // count))
    while threads > 1 and _fit(found, "CPU", threads) < count:
        threads -= 1
    share = float(threads)
    while _fit(found, "CPU", share) < count:
        share /= 2
    gpu = 1.0 if gpus else 0.0
    while gpu and _fit(found, "GPU", gpu) < count:
        gpu /= 2
    if memory is not None and _fit(found, "memory", memory) < (count if workers else 1):
        raise InputError(
            "workers",
            count,
            f"of {format_bytes(memory)} each do not fit the cluster ({_list(found)})",
            "ask for fewer workers or less --memory, or add nodes",
        )
    if memory is not None and workers is None:
        count = min(count, _fit(found, "memory", memory))
    return Shares(count, threads, share, gpu, memory or 0)


def memory_per_worker(found: list[dict[str, float]], workers: int) -> int | None:
    """Bytes that a worker may take when all nodes are shared evenly; None if it is unknown."""
    known = [node["memory"] for node in found if node.get("memory")]
    if not known:
        return None
    return int(min(known) / max(1, -(-workers // len(known))))


def _fit(found: list[dict[str, float]], kind: str, share: float) -> int:
    return sum(int(node.get(kind, 0) / share + 1e-9) for node in found)


def _list(found: list[dict[str, float]]) -> str:
    parts = [
        f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU, "
        f"{format_bytes(node.get('memory', 0))}"
        for node in found
    ]
    return f"{len(found)} nodes: " + "; ".join(parts[:8]) + ("; ..." if len(parts) > 8 else "")
