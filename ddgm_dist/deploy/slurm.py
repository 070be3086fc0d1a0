"""Batch scripts for SLURM: one Ray cluster per allocation, a run in it, and a verdict.

The script's parts that do not depend on the run are shell, in ``sbatch/``; what depends on it is a list
of directives and variables in front of them.
"""

from __future__ import annotations

import contextlib
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources as files
from pathlib import Path
from typing import TYPE_CHECKING

from ddgm_dist.core.units import GIB, MIB, format_bytes
from ddgm_dist.deploy.command import Run, reconstruct_command
from ddgm_dist.deploy.resources import Resources
from ddgm_dist.errors import InputError
from ddgm_dist.readers import strict_yaml

if TYPE_CHECKING:
    from ddgm_dist.deploy.site import SiteProfile, Slurm

__all__ = ["read_batch", "render_sbatch", "seconds_of"]

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
# Of the notice before the limit, what it takes to end Ray, to tidy up, and to ask for a requeue.
_LEAVING = 50
_DRIVER = 2 * GIB  # the driver, and Ray's own processes
# Ray's part of its longest socket path: /ray/session_<date>_<microseconds>_<pid>/sockets/plasma_store
_SOCKET = len(
    "/ddgm-4294967295/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
)
_SOCKET_MOST = 107
# Ports beside those of Ray's workers; a worker process each for CPUs, and some to spare.
_PORTS_FIXED, _PORTS_STEP = 30, 50
# From here on Linux hands ports to outgoing connections.
_PORTS_END = 32768


def render_sbatch(
    run: Run | Sequence[Run],
    needs: Resources,
    site: SiteProfile,
    *,
    name: str = "ddgm",
    max_parallel: int | None = None,
) -> str:
    """The script to give to ``sbatch``.

    Parameters
    ----------
    run
        What is reconstructed. Several make an array of jobs, one for each, that differ in nothing but
        their stores.
    needs
        What one run takes.
    site
        Its section ``slurm`` counts.
    name
        Of the job.
    max_parallel
        Of an array: most jobs that run at a time.

    Raises
    ------
    InputError
        The nodes have not what the run needs, or a value cannot be used.
    """
    runs = [run] if isinstance(run, Run) else list(run)
    array = not isinstance(run, Run)
    slurm = site.on_slurm()
    _check(runs, array, needs, slurm, name, max_parallel)
    kind = "exclusive" if slurm.exclusive else "shared"
    parts = [
        _header(runs, array, needs, slurm, name, max_parallel),
        "set -euo pipefail\n",
        _setup(slurm),
        _work(runs, array, needs, slurm),
        _settings(needs, slurm),
        _part("begin") + _part(kind) + _part("end"),
    ]
    return "\n".join(part for part in parts if part)


def read_batch(path: Path, first: Run) -> list[Run]:
    """The runs of an array: one that is given, and those of a file.

    Parameters
    ----------
    path
        Lines of ``TILTS.zarr OUT.zarr``, quoted as in a shell where they must be; ``#`` begins comments.
    first
        Goes first, and has the configuration of them all.

    Raises
    ------
    InputError
        The file cannot be read, or a line is something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("--batch", str(path), f"cannot be read ({error})") from error
    runs = [first]
    for number, line in enumerate(lines, start=1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise InputError("--batch", f"{path}:{number}", str(error).lower()) from None
        if len(words) == 2:
            runs.append(replace(first, tilts=words[0], out=words[1]))
        elif words:
            raise InputError(
                "--batch",
                f"{path}:{number}",
                f"has {len(words)} words",
                "write a tilt series and an output on each line: /data/tilts.zarr /data/volume.zarr",
            )
    return runs


def _header(
    runs: list[Run],
    array: bool,
    needs: Resources,
    slurm: Slurm,
    name: str,
    max_parallel: int | None,
) -> str:
    directives = {
        "job-name": name,
        "nodes": needs.nodes(slurm.gpus_per_node),
        "ntasks-per-node": 1,
        "cpus-per-task": slurm.cpus_per_node,
        # All of it where nobody else is on the node.
        "mem": 0
        if slurm.exclusive and slurm.memory_per_node is None
        else f"{math.ceil(_node_memory(needs, slurm) / MIB)}M",
        "gres": _gres(needs, slurm),
        "exclusive": True if slurm.exclusive else None,
        "array": _array(runs, max_parallel) if array else None,
        "partition": slurm.partition,
        "account": slurm.account,
        "qos": slurm.qos,
        "reservation": slurm.reservation,
        "constraint": slurm.constraint,
        "time": slurm.time,
        "signal": f"B:TERM@{slurm.signal_seconds}",
        "requeue": True,
        "open-mode": "append",
        "output": slurm.logs,
    }
    lines = [
        f"#SBATCH --{key}" + ("" if value is True else f"={value}")
        for key, value in directives.items()
        if value is not None
    ]
    what = f"{len(runs)} runs, one job each" if array else "one run"
    told = (
        f"{what}: {needs.workers} workers of {needs.cpus} CPUs and {format_bytes(needs.memory)}, "
        f"{needs.tiles} tiles."
    )
    about = [
        "#!/bin/bash",
        f"# Written by `ddgm-dist manifest slurm`. {told[0].upper()}{told[1:]}",
        "# Start it with `sbatch`. Whatever interrupts it, the same script goes on where it stopped.",
    ]
    return "\n".join([*about, *lines]) + "\n"


def seconds_of(limit: str) -> int:
    """Of a time limit: MIN, MIN:SEC, HOUR:MIN:SEC, DAY-HOUR, DAY-HOUR:MIN or DAY-HOUR:MIN:SEC."""
    days, dash, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
    return 86400 * int(days or 0) + sum(n * unit for n, unit in zip(parts, units, strict=False))


def _array(runs: list[Run], max_parallel: int | None) -> str:
    return f"0-{len(runs) - 1}" + (f"%{max_parallel}" if max_parallel else "")


def _gres(needs: Resources, slurm: Slurm) -> str | None:
    if not needs.gpus:
        return None
    kind = f"{slurm.gpu_type}:" if slurm.gpu_type else ""
    return f"gpu:{kind}{slurm.gpus_per_node}"


def _setup(slurm: Slurm) -> str:
    if not slurm.setup:
        return ""
    # Modules and conda's activation read variables that are not set, and call what fails.
    lines = ["# The environment, from the site profile.", "set +eu", *slurm.setup, "set -eu"]
    return "\n".join(lines) + "\n"


def _work(runs: list[Run], array: bool, needs: Resources, slurm: Slurm) -> str:
    """Where the stores are, and the function that reconstructs."""
    lines = ["# The run."]
    if array:
        for key in ("tilts", "out"):
            stores = [f"    {shlex.quote(getattr(one, key))}" for one in runs]
            lines += [f"all_{key}=(", *stores, ")"]
        lines += [f"{key}=${{all_{key}[SLURM_ARRAY_TASK_ID]}}" for key in ("tilts", "out")]
    else:
        lines += [f"{key}={shlex.quote(getattr(runs[0], key))}" for key in ("tilts", "out")]
    words = reconstruct_command(_checkpointing(runs[0], slurm), needs)
    command = " ".join([*words[:2], '"$tilts"', '"$out"', *map(_folded, words[4:])])
    lines += ["export tilts out", "run() {", f"    exec {command}", "}"]
    return "\n".join(lines) + "\n"


def _checkpointing(run: Run, slurm: Slurm) -> Run:
    """With a checkpoint within the time of notice, unless the run says how often."""
    said = [word.partition("=")[0].strip() for word in run.overrides]
    if run.config:
        # It may lie where only the nodes see it; then what is said here counts.
        with contextlib.suppress(OSError):
            said += _keys(Path(run.config).read_bytes(), run.config)
    if "checkpoint_every" in said:
        return run
    every = f"checkpoint_every={(slurm.signal_seconds - _LEAVING) * 3 // 4}"
    return replace(run, overrides=(every, *run.overrides))


def _keys(text: bytes, path: str) -> list[str]:
    try:
        found = strict_yaml.load(text.decode("utf-8"))
    except (UnicodeDecodeError, strict_yaml.YamlError) as error:
        raise InputError("--config", path, str(error)) from error
    return list(found) if isinstance(found, dict) else []


def _folded(word: str) -> str:
    """Options on lines of their own; a word that only holds dashes is quoted whole."""
    return f"\\\n        {shlex.quote(word)}" if word.startswith("--") else shlex.quote(word)


def _settings(needs: Resources, slurm: Slurm) -> str:
    values = {
        "node_cpus": slurm.cpus_per_node,
        "node_gpus": slurm.gpus_per_node if needs.gpus else 0,
        "node_memory": needs.per_node(slurm.gpus_per_node) * needs.memory,
        "object_store": int(slurm.object_store),
        "scratch": slurm.scratch.rstrip("/"),
        "interface": shlex.quote(slurm.interface or ""),
        "port": slurm.port,
        "wait_seconds": slurm.wait_seconds,
    }
    own = {
        "patience": slurm.signal_seconds - _LEAVING,
        "starts": slurm.starts,
        "limit": seconds_of(slurm.time),
    }
    if not slurm.exclusive:
        size = _block(slurm)
        values["block"], own["blocks"] = size, _blocks(slurm)
    lines = ["# What a node gives, and how the nodes talk; bytes, seconds."]
    lines += [f"export {key}={value}" for key, value in values.items()]
    lines += [f"{key}={value}" for key, value in own.items()]
    return "\n".join(lines) + "\n"


def _block(slurm: Slurm) -> int:
    """Ports of one job on a node."""
    return math.ceil((_PORTS_FIXED + 4 * slurm.cpus_per_node) / _PORTS_STEP) * _PORTS_STEP


def _blocks(slurm: Slurm) -> int:
    return (_PORTS_END - slurm.port) // _block(slurm)


def _part(name: str) -> str:
    return files.files("ddgm_dist.deploy").joinpath("sbatch", f"{name}.sh").read_text("utf-8")


def _node_memory(needs: Resources, slurm: Slurm) -> int:
    least = needs.per_node(slurm.gpus_per_node) * needs.memory + slurm.object_store + _DRIVER
    return max(least, slurm.memory_per_node or 0)


def _check(
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
            f"and {slurm.signal_seconds} s before the end the job is told to stop (signal_seconds)",
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
    if not slurm.exclusive and _blocks(slurm) < 1:
        raise InputError(
            "slurm.port",
            slurm.port,
            f"leaves no room for a job's {_block(slurm)} ports below {_PORTS_END}, where Linux takes "
            "ports for connections",
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
    need = _node_memory(needs, slurm)
    if slurm.memory_per_node is not None and slurm.memory_per_node < need:
        raise InputError(
            "slurm.memory_per_node",
            f"{format_bytes(slurm.memory_per_node)}",
            f"is less than the {format_bytes(need)} that {workers} workers of "
            f"{format_bytes(needs.memory)}, Ray's object store and the driver need",
            "take more of a node, or plan with less --memory",
        )
