"""Checks of what goes into a batch script: names, runs, nodes, ports, times."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from ddgm_dist.core.units import GIB, format_bytes
from ddgm_dist.deploy.command import Run
from ddgm_dist.deploy.resources import Resources
from ddgm_dist.errors import InputError

if TYPE_CHECKING:
    from ddgm_dist.deploy.site import Slurm

__all__ = ["check_batch", "node_memory", "port_blocks", "ports_of_job", "seconds_of"]

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_DRIVER = 2 * GIB  # the driver, and Ray's own processes
# Length of Ray's part of its longest socket path, and the longest path that Linux allows.
_SOCKET = len(
    "/ddgm-4294967295/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
)
_SOCKET_MOST = 107
# Ports beside those of Ray's workers, and the multiple that the ports of a job are rounded up to.
_PORTS_FIXED, _PORTS_STEP = 30, 50
# First port that Linux gives to outgoing connections.
_PORTS_END = 32768


def seconds_of(limit: str) -> int:
    """Seconds of a time limit.

    Its forms are MIN, MIN:SEC, HOUR:MIN:SEC, DAY-HOUR, DAY-HOUR:MIN and DAY-HOUR:MIN:SEC.
    """
    days, dash, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
    return 86400 * int(days or 0) + sum(n * unit for n, unit in zip(parts, units, strict=False))


def node_memory(needs: Resources, slurm: Slurm) -> int:
    least = needs.per_node(slurm.gpus_per_node) * needs.memory + slurm.object_store + _DRIVER
    return max(least, slurm.memory_per_node or 0)


def ports_of_job(slurm: Slurm) -> int:
    """Number of ports of one job on a node."""
    return math.ceil((_PORTS_FIXED + 4 * slurm.cpus_per_node) / _PORTS_STEP) * _PORTS_STEP


def port_blocks(slurm: Slurm) -> int:
    return (_PORTS_END - slurm.port) // ports_of_job(slurm)


def check_batch(
    runs: list[Run],
    array: bool,
    needs: Resources,
    slurm: Slurm,
    name: str,
    max_parallel: int | None,
) -> None:
    if not _NAME.fullmatch(name) or len(name) > 63:
        raise InputError(
            "name", name, "is not of at most 63 lower-case letters, digits and -", "try ddgm"
        )
    if max_parallel is not None and (not array or max_parallel < 1):
        raise InputError(
            "max_parallel", max_parallel, "is for arrays, and at least 1", "leave it out"
        )
    _check_runs(runs)
    _check_node(needs, slurm)
    least = slurm.signal_seconds + slurm.wait_seconds
    if seconds_of(slurm.time) <= least:
        raise InputError(
            "slurm.time",
            slurm.time,
            f"leaves no time to work: nodes may take {slurm.wait_seconds} s to come up (wait_seconds), "
            f"and the job is stopped {slurm.signal_seconds} s before the end (signal_seconds)",
            f"give it more than {least} s",
        )
    path = slurm.scratch.rstrip("/")
    if len(path) + _SOCKET > _SOCKET_MOST:
        raise InputError(
            "slurm.scratch",
            slurm.scratch,
            f"is longer than {_SOCKET_MOST - _SOCKET} characters: Ray's sockets below it would have "
            f"paths of more than {_SOCKET_MOST}, which Linux does not take",
            "name a shorter directory, or a symbolic link to it that all nodes have",
        )
    if not slurm.exclusive and port_blocks(slurm) < 1:
        raise InputError(
            "slurm.port",
            slurm.port,
            f"leaves no room for a job's {ports_of_job(slurm)} ports below {_PORTS_END}, where Linux "
            "takes ports for connections",
            "choose one that is smaller, such as 20000",
        )


def _check_runs(runs: list[Run]) -> None:
    if not runs:
        raise InputError("run", "[]", "an array needs at least one run")
    for one in runs[1:]:
        same = replace(one, tilts=runs[0].tilts, out=runs[0].out)
        if same != runs[0]:
            raise InputError(
                "run",
                one.tilts,
                f"has another configuration than {runs[0].tilts}, and jobs of an array differ in their "
                "stores alone",
                "make a script for each configuration",
            )
    outs = [one.out.rstrip("/") for one in runs]
    for out in outs:
        if outs.count(out) > 1:
            raise InputError("out", out, "is the output of two runs of the array", "rename one")


def _check_node(needs: Resources, slurm: Slurm) -> None:
    workers = needs.per_node(slurm.gpus_per_node)
    if needs.gpus and not slurm.gpus_per_node:
        raise InputError(
            "slurm.gpus_per_node",
            0,
            "the run's workers ask for a GPU each, and nodes have none",
            "say how many a node has, or plan without GPUs",
        )
    if workers * needs.cpus > slurm.cpus_per_node:
        raise InputError(
            "slurm.cpus_per_node",
            slurm.cpus_per_node,
            f"is less than the {workers} x {needs.cpus} CPUs of a node's workers",
            "take more CPUs of a node, or give a worker fewer",
        )
    need = node_memory(needs, slurm)
    if slurm.memory_per_node is not None and slurm.memory_per_node < need:
        raise InputError(
            "slurm.memory_per_node",
            format_bytes(slurm.memory_per_node),
            f"is less than the {format_bytes(need)} that {workers} workers of "
            f"{format_bytes(needs.memory)}, Ray's object store and the driver need",
            "take more of a node, or plan with less --memory",
        )
