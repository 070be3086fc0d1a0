"""The plan: the tiles of a problem, its cost, and its description."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any, Literal

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.core.lines import labelled
from ddgm_dist.core.units import format_bytes
from ddgm_dist.pixels.findings import Finding
from ddgm_dist.planning.memory import CUDA_CONTEXT, LEAST_CACHED, MemoryModel
from ddgm_dist.planning.preset_costs import preset_costs, to_table
from ddgm_dist.planning.presets import PresetUse
from ddgm_dist.planning.runtime_estimate import RuntimeEstimate
from ddgm_dist.planning.tiling import Tile, Tiles, chunk_columns
from ddgm_dist.planning.traffic import State, Traffic
from ddgm_dist.records.fit import Fit

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """Tiles of a problem, and the projected cost of computing them.

    Attributes
    ----------
    tiles
        All tiles, sample by sample, group by group; tiles of a group are coupled.
    memory
        Memory of a worker, by parts.
    denoiser_calls, restorer_calls
        Number over all tiles and iterations; at the start of all tiles.
    bytes_read, bytes_written
        Input and output of the run. With several samples it includes their volumes, which are
        written, and read again to combine them.
    traffic
        Bytes moved between coupled tiles in one iteration.
    iterations
        N.
    start
        Restorer that the iterations begin from, in words; empty where they begin from zero.
    workers
        Workers that share the tiles, as far as is known.
    state
        Place of the states of coupled tiles; ``none`` if no tiles are coupled.
    budget
        Bytes one worker may use; None if that is unknown.
    expected
        Projected run time, if the machine was measured.
    findings
        Defects found in the pixels.
    intensity
        Intensity, noise and misfit of the data, where the plan is to show them.
    expected_fit
        Verdict on a quick fit of a few rows; None where none was made.
    preset
        The preset that was given; None where none was.
    """

    tiles: Tiles
    memory: MemoryModel
    denoiser_calls: int
    bytes_read: int
    bytes_written: int
    traffic: Traffic
    iterations: int
    workers: int = 1
    state: State = "none"
    restorer_calls: int = 0
    start: str = ""
    budget: int | None = None
    expected: RuntimeEstimate | None = None
    findings: tuple[Finding, ...] = ()
    intensity: Intensity | None = None
    expected_fit: Fit | None = None
    preset: PresetUse | None = None

    @property
    def shape(self) -> Triple:
        """Shape of the output volume (z, y, x), voxels."""
        return (self.tiles.depth, self.tiles.rows, self.tiles.field)

    @property
    def shard(self) -> Triple:
        """Shape of a shard of the output; write boxes are whole shards."""
        return (self.tiles.depth, self.memory.rows_per_call, self.tiles.tile_columns)

    @property
    def chunk(self) -> Triple:
        """Shape of a chunk of the output."""
        return (*self.shard[:2], chunk_columns(self.tiles.field))

    @property
    def margin(self) -> int:
        """Columns a coupled tile reads beyond its own."""
        return self.tiles.margin

    @property
    def length(self) -> int:
        """Period of the Fourier transform along x, the same for all tiles, columns."""
        return self.memory.length

    @property
    def order(self) -> Literal["tile-major", "step-major"]:
        """Order of the work, which follows from the coupling.

        ``tile-major``: each tile runs all iterations in one go. ``step-major``: the tiles of a
        group exchange halos once per iteration.
        """
        return "tile-major" if self.state == "none" else "step-major"

    @property
    def groups(self) -> tuple[tuple[Tile, ...], ...]:
        """Tiles by coupled group."""
        return tuple(tuple(g) for _, g in groupby(self.tiles, key=lambda tile: tile.group))

    @property
    def samples(self) -> int:
        """Volumes that are solved for."""
        return self.tiles.samples

    @property
    def combined(self) -> Sequence[Tile]:
        """Tiles in which several samples are combined to mean and standard deviation.

        There are as many as one sample has, named as for a single sample; none if there is only one.
        """
        return () if self.samples == 1 else replace(self.tiles, samples=1)

    @property
    def units(self) -> int:
        """Number of tiles to solve and to combine."""
        return len(self.tiles) + len(self.combined)

    @property
    def voxels(self) -> int:
        """Voxels solved for in one iteration, halos included, of all samples."""
        return sum(tile.read_box.size for tile in self.tiles)

    @property
    def work(self) -> int:
        """Voxels of all samples' volumes times iterations, the unit of progress."""
        return math.prod(self.shape) * self.samples * self.iterations

    @property
    def halo(self) -> float:
        """Voxels that are solved twice or lie outside the field, as a fraction of the volume."""
        return self.voxels / (math.prod(self.shape) * self.samples) - 1

    def kept(self, workers: int) -> int:
        """Number of coupled tiles that each of ``workers`` keeps in memory."""
        return self.tiles.kept(workers)

    def resident(self, workers: int, budget: int) -> bool:
        """Return True if ``workers`` of ``budget`` bytes can keep the states of all coupled tiles."""
        return self.memory.resident(self.kept(workers)) <= budget

    def cached(self, budget: int | None) -> int:
        """Number of streamed tiles whose measurements a worker keeps, at most a whole group.

        Any worker may get any tile. One that keeps too few reads and stretches them again at each
        iteration.
        """
        if budget is None:
            return LEAST_CACHED
        room = (budget - self.memory.streamed) // self.memory.data
        return min(max(LEAST_CACHED, LEAST_CACHED + room), max(LEAST_CACHED, self.kept(1)))

    @property
    def worker_memory(self) -> int:
        """Projected bytes of one worker, with the states where the plan keeps them."""
        if self.state == "memory":
            return self.memory.resident(self.kept(self.workers))
        if self.state == "store":
            more = self.cached(self.budget) - LEAST_CACHED
            return self.memory.streamed + more * self.memory.data
        return self.memory.total

    def describe(self) -> str:
        """The plan as lines of text."""
        return _describe(self)

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON values; bytes, voxels, seconds."""
        return _summary(self)


def _describe(plan: Plan) -> str:
    """The plan as lines of text."""
    z, y, x = plan.shape
    first = plan.tiles[0]
    along, across = (len({t.write_box.start[axis] for t in plan.tiles}) for axis in (1, 2))
    each = "" if plan.samples == 1 else f", of each of {plan.samples} samples"
    lines = {
        "volume": f"{z} x {y} x {x} voxels (z, y, x), {z * y * x / 1e6:.4g} Mvoxel",
        **({} if plan.preset is None else {"preset": plan.preset.describe()}),
        **_samples(plan),
        "tiles": f"{len(plan.tiles)} ({along} along y, {across} along x{each})",
        "first tile": f"writes {_box(first.write_box)}, reads {_box(first.read_box)}",
        "order": f"{plan.order}: {_coupling(plan, along, across)}",
        "halo": f"{100 * plan.halo:.1f} % of the volume is solved twice or lies outside the field",
        "shards": f"{plan.shard} voxels in chunks of {plan.chunk}, one writer each",
        **_intensity(plan),
        **({"start": plan.start} if plan.start else {}),
        "iterations": f"{plan.iterations}",
        "denoiser calls": f"{plan.denoiser_calls}",
        **({"restorer calls": f"{plan.restorer_calls}"} if plan.restorer_calls else {}),
        "bytes": f"{format_bytes(plan.bytes_read)} read, {format_bytes(plan.bytes_written)} written",
        "per iteration": plan.traffic.describe(plan.state, plan.kept(plan.workers), plan.workers),
        "worker memory": plan.memory.describe(plan.worker_memory, plan.budget),
        "on a GPU": f"{format_bytes(_on_gpu(plan))} "
        f"(of which {format_bytes(CUDA_CONTEXT)} for CUDA itself are an assumption)",
    }
    if plan.expected is not None:
        lines |= plan.expected.describe()
    if plan.expected_fit is not None:
        lines["data"] = plan.expected_fit.outlook()
    lines["presets cost"] = f"calls for each block of rows and window\n{to_table(preset_costs())}"
    noticed = [labelled("noticed", finding.text, 16) for finding in plan.findings]
    return "\n".join([*(labelled(name, text, 16) for name, text in lines.items()), *noticed])


def _summary(plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON values; bytes, voxels, seconds."""
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
        "start": plan.start or None,
        "iterations": plan.iterations,
        "preset": None if plan.preset is None else plan.preset.to_dict(),
        "presets": {cost.name: cost.to_dict() for cost in preset_costs()},
        "denoiser_calls": plan.denoiser_calls,
        "restorer_calls": plan.restorer_calls,
        "voxels_per_iteration": plan.voxels,
        "halo": plan.halo,
        "bytes_read": plan.bytes_read,
        "bytes_written": plan.bytes_written,
        "bytes_per_iteration": plan.traffic.to_dict(plan.state),
        "memory": {
            "worker": plan.worker_memory,
            "gpu": _on_gpu(plan),
            "budget": plan.budget,
            "parts": plan.memory.parts(),
        },
        "intensity": None if plan.intensity is None else asdict(plan.intensity),
        "expected": None if plan.expected is None else plan.expected.to_dict(),
        "expected_fit": None if plan.expected_fit is None else plan.expected_fit.to_dict(),
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
    between = format_bytes(4 * math.prod(plan.shape) * plan.samples)
    return {
        "samples": f"{plan.samples}, of which mean and standard deviation are made; until then their "
        f"volumes take {between}"
    }


def _intensity(plan: Plan) -> dict[str, str]:
    """Intensity, noise and misfit of the data, if they are to be shown."""
    if plan.intensity is None:
        return {}
    own = plan.intensity
    return {
        "intensity": f"mean {own.mean:.5g}, std {own.std:.5g} per voxel",
        "noise": own.describe_noise(),
    }


def _on_gpu(plan: Plan) -> int:
    return plan.memory.gpu(plan.kept(plan.workers) if plan.state == "memory" else 0)


def _box(box: Box) -> str:
    return " x ".join(f"{a}:{b}" for a, b in zip(box.start, box.stop, strict=True))
