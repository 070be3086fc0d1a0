"""A plan in words, for people and for machines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ddgm_dist.core.box import Box
from ddgm_dist.plan.memory import CUDA_CONTEXT, shown

if TYPE_CHECKING:
    from ddgm_dist.plan.plan import Plan

__all__ = ["describe", "summary"]


def describe(plan: Plan) -> str:
    """A page for people."""
    z, y, x = plan.shape
    first = plan.tiles[0]
    along, across = (len({t.write_box.start[axis] for t in plan.tiles}) for axis in (1, 2))
    lines = {
        "volume": f"{z} x {y} x {x} voxels (z, y, x), {z * y * x / 1e6:.4g} Mvoxel",
        **_samples(plan),
        "tiles": f"{len(plan.tiles)} ({along} along y, {across} along x{_each(plan)})",
        "first tile": f"writes {_box(first.write_box)}, reads {_box(first.read_box)}",
        "order": f"{plan.order}: {_coupling(plan, along, across)}",
        "halo": f"{100 * plan.halo:.1f} % of the volume is solved twice or lies outside the field",
        "shards": f"{plan.shard} voxels in chunks of {plan.chunk}, one writer each",
        "iterations": f"{plan.iterations}",
        "denoiser calls": f"{plan.denoiser_calls}",
        "bytes": f"{shown(plan.bytes_read)} read, {shown(plan.bytes_written)} written",
        "per iteration": _moved(plan),
        "worker memory": _memory(plan),
        "on a GPU": f"{shown(plan.memory.gpu(plan.kept(plan.workers) if _keeps(plan) else 0))} "
        f"(of which {shown(CUDA_CONTEXT)} for CUDA itself are an assumption)",
    }
    if plan.expected is not None:
        lines |= plan.expected.describe()
    noticed = [f"{'noticed':16}{finding.text}" for finding in plan.findings]
    return "\n".join([*(f"{name:16}{text}" for name, text in lines.items()), *noticed])


def summary(plan: Plan) -> dict[str, Any]:
    """The same as plain JSON values; bytes, voxels."""
    first = plan.tiles[0]
    return {
        "shape": list(plan.shape),
        "shard": list(plan.shard),
        "chunk": list(plan.chunk),
        "samples": plan.samples,
        "tiles": len(plan.tiles),
        "groups": len(plan.groups),
        "first_tile": {
            "write_box": [list(first.write_box.start), list(first.write_box.stop)],
            "read_box": [list(first.read_box.start), list(first.read_box.stop)],
        },
        "order": plan.order,
        "state": plan.state,
        "workers": plan.workers,
        "iterations": plan.iterations,
        "denoiser_calls": plan.denoiser_calls,
        "voxels_per_iteration": plan.voxels,
        "halo": plan.halo,
        "bytes_read": plan.bytes_read,
        "bytes_written": plan.bytes_written,
        "bytes_per_iteration": {
            "exchanged": plan.traffic.exchanged if plan.state == "resident" else 0,
            "read": plan.traffic.read if plan.state == "streamed" else 0,
            "written": plan.traffic.written if plan.state == "streamed" else 0,
        },
        "memory": {
            "worker": plan.worker_memory,
            "gpu": plan.memory.gpu(plan.kept(plan.workers) if _keeps(plan) else 0),
            "budget": plan.budget,
            "parts": plan.memory.parts(),
        },
        "expected": None if plan.expected is None else plan.expected.to_dict(),
        "findings": [finding.to_dict() for finding in plan.findings],
    }


def _coupling(plan: Plan, along: int, across: int) -> str:
    if len(plan.groups) == len(plan.tiles):
        return "no tile talks to another"
    if len(plan.groups) < along * plan.samples:
        return f"all {along} x {across} tiles are coupled, along y and x"
    return f"{across} coupled tiles along x"


def _samples(plan: Plan) -> dict[str, str]:
    if plan.samples == 1:
        return {}
    between = shown(4 * math.prod(plan.shape) * plan.samples)
    return {
        "samples": f"{plan.samples}, of which mean and standard deviation are made; until then their "
        f"volumes take {between}"
    }


def _each(plan: Plan) -> str:
    return "" if plan.samples == 1 else f", of each of {plan.samples} samples"


def _keeps(plan: Plan) -> bool:
    return plan.state == "resident"


def _moved(plan: Plan) -> str:
    if plan.state == "none":
        return "nothing is moved between tiles"
    if plan.state == "resident":
        return (
            f"{shown(plan.traffic.exchanged)} through the object store; states are resident, "
            f"{plan.kept(plan.workers)} tiles on each of {plan.workers} workers"
        )
    return (
        f"{shown(plan.traffic.written)} written and {shown(plan.traffic.read)} read through the "
        "store; states are streamed"
    )


def _memory(plan: Plan) -> str:
    parts = ", ".join(f"{name} {shown(size)}" for name, size in plan.memory.parts().items())
    budget = "" if plan.budget is None else f" of {shown(plan.budget)}"
    return f"{shown(plan.worker_memory)}{budget} ({parts})"


def _box(box: Box) -> str:
    return " x ".join(f"{a}:{b}" for a, b in zip(box.start, box.stop, strict=True))
