"""Batch scripts for SLURM: a Ray cluster per allocation, a run in it, and a check of its result.

The script's constant parts are shell, in ``sbatch/``. Directives and variables of the run precede
them.
"""

from __future__ import annotations

import contextlib
import math
import shlex
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources as files
from pathlib import Path
from typing import TYPE_CHECKING

from ddgm_dist.core.units import MIB, format_bytes
from ddgm_dist.deploy.command import Run, reconstruct_command
from ddgm_dist.deploy.resources import Resources
from ddgm_dist.deploy.slurm_checks import (
    check_batch,
    node_memory,
    port_blocks,
    ports_of_job,
    seconds_of,
)
from ddgm_dist.errors import InputError
from ddgm_dist.readers import strict_yaml

if TYPE_CHECKING:
    from ddgm_dist.deploy.site import SiteProfile, Slurm

__all__ = ["read_batch", "render_sbatch"]

# Seconds of the notice before the limit that ending Ray, tidying up and a requeue take.
_LEAVING = 50


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
        The reconstruction. Several make an array with one job for each; they may differ only in
        their stores.
    needs
        Resources of one run.
    site
        Profile with the section ``slurm``.
    name
        Name of the job.
    max_parallel
        Largest number of jobs of an array that run at a time.

    Raises
    ------
    InputError
        If the nodes lack what the run needs, or a value cannot be used.
    """
    runs = [run] if isinstance(run, Run) else list(run)
    array = not isinstance(run, Run)
    slurm = site.on_slurm()
    check_batch(runs, array, needs, slurm, name, max_parallel)
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
    """The runs of an array: a given one, and those of a file.

    Parameters
    ----------
    path
        File with lines ``TILTS.zarr OUT.zarr``, quoted as in a shell; ``#`` begins comments.
    first
        First run, whose configuration all runs share.

    Raises
    ------
    InputError
        If the file cannot be read, or a line is not of this form.
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
        # 0 is all memory of the node, which an exclusive job may take.
        "mem": 0
        if slurm.exclusive and slurm.memory_per_node is None
        else f"{math.ceil(node_memory(needs, slurm) / MIB)}M",
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
    summary = (
        f"{what}: {needs.workers} workers of {needs.cpus} CPUs and {format_bytes(needs.memory)}, "
        f"{needs.tiles} tiles."
    )
    about = [
        "#!/bin/bash",
        f"# Written by `ddgm-dist manifest slurm`. {summary[0].upper()}{summary[1:]}",
        "# Start it with `sbatch`. After any interruption the same script resumes.",
    ]
    return "\n".join([*about, *lines]) + "\n"


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
    # Modules and conda's activation read unset variables, and call commands that fail.
    lines = ["# The environment, from the site profile.", "set +eu", *slurm.setup, "set -eu"]
    return "\n".join(lines) + "\n"


def _work(runs: list[Run], array: bool, needs: Resources, slurm: Slurm) -> str:
    """Shell lines with the paths of the stores, and the function that reconstructs."""
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
    """The run with checkpoints more frequent than the notice, unless it sets their interval."""
    said = [word.partition("=")[0].strip() for word in run.overrides]
    if run.config:
        # If only the nodes see the file, the interval set here counts.
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
    """A word of the command, quoted for a shell; an option goes onto its own line."""
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
        "grace": slurm.signal_seconds - _LEAVING,
        "starts": slurm.starts,
        "limit": seconds_of(slurm.time),
    }
    if not slurm.exclusive:
        size = ports_of_job(slurm)
        values["block"], own["blocks"] = size, port_blocks(slurm)
    lines = ["# Resources of a node and settings of Ray; bytes, seconds."]
    lines += [f"export {key}={value}" for key, value in values.items()]
    lines += [f"{key}={value}" for key, value in own.items()]
    return "\n".join(lines) + "\n"


def _part(name: str) -> str:
    return files.files("ddgm_dist.deploy").joinpath("sbatch", f"{name}.sh").read_text("utf-8")
