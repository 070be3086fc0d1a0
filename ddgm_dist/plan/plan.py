"""The plan: how a problem is cut up, what it will cost, and whether it can work at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

from ddgm_dist.core.box import Triple
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.errors import PlanError
from ddgm_dist.findings import Finding
from ddgm_dist.plan.advice import fitting_keys
from ddgm_dist.plan.calls import denoiser_calls, largest_call
from ddgm_dist.plan.config import PlanConfig
from ddgm_dist.plan.description import describe, summary
from ddgm_dist.plan.expectation import Expectation
from ddgm_dist.plan.memory import ACTIVATION, LEAST_CACHED, MemoryModel, shown
from ddgm_dist.plan.problem import Problem
from ddgm_dist.plan.tiling import (
    Tile,
    Tiles,
    chunk_columns,
    columns_and_margin,
    make_tiles,
    widest_read,
)
from ddgm_dist.plan.traffic import Traffic, traffic

__all__ = ["Plan", "columns_and_margin", "make_plan", "widest_read"]

# Voxels of a coupled tile, about: an iteration of one takes a GPU a few tenths of a second.
COUPLED_VOXELS = 2**24


@dataclass(frozen=True)
class Plan:
    """How a problem is computed.

    Attributes
    ----------
    tiles
        All tiles, sample by sample, group by group; tiles of a group are coupled.
    shape, shard, chunk
        Of the output volume; write boxes are whole shards.
    margin
        Columns a coupled tile reads beyond its own.
    length
        Period of the Fourier transform along x, the same for all tiles, columns.
    order
        ``tile-major``: each tile runs all iterations in one go. ``step-major``: the tiles of a
        group exchange halos once per iteration.
    memory
        What a worker holds, by parts.
    denoiser_calls
        Over all tiles and iterations.
    bytes_read, bytes_written
        Input and output of the run; of several samples' volumes, which are written, read again and
        combined, too.
    traffic
        Bytes moved between coupled tiles in one iteration.
    iterations
        N.
    workers
        That share the tiles, as far as is known.
    state
        Whether the states of coupled tiles would stay with so many workers.
    budget
        Bytes one worker may use; None if that is unknown.
    expected
        How long it will take, if that was calibrated.
    findings
        What was noticed in the pixels.
    """

    tiles: Tiles
    shape: Triple
    shard: Triple
    chunk: Triple
    margin: int
    length: int
    order: Literal["tile-major", "step-major"]
    memory: MemoryModel
    denoiser_calls: int
    bytes_read: int
    bytes_written: int
    traffic: Traffic
    iterations: int
    workers: int = 1
    state: Literal["none", "resident", "streamed"] = "none"
    budget: int | None = None
    expected: Expectation | None = None
    findings: tuple[Finding, ...] = ()

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
        """Where mean and standard deviation are made of several samples, when all are done there.

        As many as one sample has tiles, and named as these are when it is the only one.
        """
        return () if self.samples == 1 else replace(self.tiles, samples=1)

    @property
    def units(self) -> int:
        """Tiles to solve, and to combine."""
        return len(self.tiles) + len(self.combined)

    @property
    def voxels(self) -> int:
        """Voxels solved for in one iteration, halos included, of all samples."""
        return sum(tile.read_box.size for tile in self.tiles)

    @property
    def work(self) -> int:
        """Voxels of all samples' volumes times iterations, which progress is counted in."""
        return math.prod(self.shape) * self.samples * self.iterations

    @property
    def halo(self) -> float:
        """Voxels that are solved twice or lie outside the field, as a fraction of the volume."""
        return self.voxels / (math.prod(self.shape) * self.samples) - 1

    @property
    def bytes_exchanged(self) -> int:
        """Between coupled tiles in one iteration when their states stay with the workers."""
        return self.traffic.exchanged

    def kept(self, workers: int) -> int:
        """Coupled tiles that one of so many workers keeps: its share of the widest group."""
        return kept_tiles(self.tiles, workers)

    def resident(self, workers: int, budget: int) -> bool:
        """Whether so many workers of a memory can keep the states of all coupled tiles."""
        return self.memory.resident(self.kept(workers)) <= budget

    def cached(self, budget: int | None) -> int:
        """Streamed tiles whose measurements a worker of a memory keeps, at most a whole group.

        Any worker may be given any tile: one that keeps too few reads and stretches them again at
        each iteration.
        """
        if budget is None:
            return LEAST_CACHED
        room = (budget - self.memory.streamed) // self.memory.data
        return min(max(LEAST_CACHED, LEAST_CACHED + room), max(LEAST_CACHED, self.kept(1)))

    @property
    def worker_memory(self) -> int:
        """Projected bytes of one worker, the way the plan would be run."""
        if self.state == "resident":
            return self.memory.resident(self.kept(self.workers))
        if self.state == "streamed":
            more = self.cached(self.budget) - LEAST_CACHED
            return self.memory.streamed + more * self.memory.data
        return self.memory.total

    def describe(self) -> str:
        """A page for people."""
        return describe(self)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values; bytes, voxels, seconds."""
        return summary(self)


def kept_tiles(tiles: Iterable[Tile], workers: int) -> int:
    """Tiles of the widest group by workers, and one that moves in when a worker is lost."""
    sizes: dict[int, int] = {}
    for tile in tiles:
        sizes[tile.group] = sizes.get(tile.group, 0) + 1
    most = max(sizes.values())
    return min(most, max(2, math.ceil(most / workers)) + 1)


def make_plan(
    problem: Problem,
    config: PlanConfig,
    *,
    length: int,
    memory: int | None = None,
    itemsize: int = 4,
    workers: int = 1,
    calls: int = 2,
    activation: float = ACTIVATION["bfloat16"],
) -> Plan:
    """Cut a problem into tiles and project its cost.

    How tiles are cut along x belongs to the problem and does not depend on the memory. Rows of
    coupled tiles, and where their states stay, are chosen so that it holds.

    Parameters
    ----------
    problem, config
        What is solved; plan keys.
    length
        Period of the Fourier transform of the widest read box (:func:`widest_read`), columns.
    memory
        Bytes one worker may use; unbounded when None.
    itemsize
        Bytes per pixel of the stored tilt series.
    workers, calls
        How many share the tiles; calls that each takes at a time (a Ray worker takes two).
    activation
        Bytes per voxel of a denoiser call.

    Raises
    ------
    PlanError
        If tiles would not be whole shards, or even the smallest tile needs too much memory.
    """
    g, block = problem.geometry, problem.rows_per_call
    tile_columns, margin = columns_and_margin(g, problem.config)
    if config.tile_rows and config.tile_rows % block:
        raise PlanError(
            "tile_rows",
            config.tile_rows,
            f"is not a multiple of rows_per_call = {block}: a write box must be whole shards",
            f"try {block * max(1, round(config.tile_rows / block))}",
        )

    def model(problem: Problem, length: int, rows: int) -> MemoryModel:
        return _model(problem, length, rows, calls=calls, activation=activation)

    def needs(problem: Problem, length: int, rows: int) -> int:
        found = model(problem, length, rows)
        return found.resident(found.calls) if config.state == "resident" else found.total

    rows = config.tile_rows or _tile_rows(problem, length)
    if memory is not None:
        if config.tile_rows is None:
            while rows > block and needs(problem, length, rows) > memory:
                rows = max(block, rows // 2 // block * block)
        if needs(problem, length, rows) > memory:
            raise _too_large(problem, length, rows, memory, needs, config.tile_rows)
    tiles = make_tiles(
        g,
        tile_rows=rows,
        tile_columns=tile_columns,
        margin=margin,
        halo=problem.halo,
        samples=problem.config.samples,
    )
    samples = tiles.samples
    volume = 4 * g.thickness * g.rows * g.field
    groups = [list(same) for _, same in groupby(tiles, key=lambda tile: tile.group)]
    coupled = any(len(group) > 1 for group in groups)
    worker = model(problem, length, rows)
    return Plan(
        tiles=tiles,
        shape=(g.thickness, g.rows, g.field),
        shard=(g.thickness, block, tile_columns),
        chunk=(g.thickness, block, chunk_columns(g.field)),
        margin=margin,
        length=length,
        order="step-major" if coupled else "tile-major",
        memory=worker,
        denoiser_calls=denoiser_calls(tiles, problem),
        bytes_read=g.tilts * itemsize * _pixels_read(tiles, g)
        + (volume * samples if samples > 1 else 0),
        bytes_written=volume * (samples + 2 if samples > 1 else 1),
        traffic=traffic(groups, g.field, margin, block),
        iterations=problem.config.N,
        workers=workers,
        state=_state(config.state, worker, kept_tiles(tiles, workers), memory)
        if coupled
        else "none",
        budget=memory,
    )


def _state(
    asked: Literal["auto", "resident", "streamed"],
    model: MemoryModel,
    tiles: int,
    budget: int | None,
) -> Literal["resident", "streamed"]:
    if asked != "auto":
        return asked
    return "resident" if budget is None or model.resident(tiles) <= budget else "streamed"


def _model(
    problem: Problem, length: int, rows: int, *, calls: int, activation: float
) -> MemoryModel:
    g = problem.geometry
    columns, _ = columns_and_margin(g, problem.config)
    return MemoryModel(
        g.thickness,
        g.tilts,
        length,
        problem.rows_per_call,
        problem.lattice.width,
        min(rows + 2 * problem.halo, max(rows, g.rows)),
        largest_call=largest_call(problem),
        activation=activation,
        series=4 * g.tilts * g.rows * g.field,
        calls=calls,
        coupled=columns < g.field or (problem.halo > 0 and rows < g.rows),
        planes=problem.halo > 0,
    )


def _too_large(
    problem: Problem,
    length: int,
    rows: int,
    memory: int,
    needs: Callable[[Problem, int, int], int],
    asked_rows: int | None,
) -> PlanError:
    """What a worker would need, and the keys with which it would do."""
    least = needs(problem, length, rows)

    def fits(other: Problem, length: int) -> bool:
        return needs(other, length, asked_rows or other.rows_per_call) <= memory

    keys = fitting_keys(problem, fits)
    if asked_rows is not None and needs(problem, length, problem.rows_per_call) <= memory:
        keys.insert(0, "smaller tile_rows (it is chosen if you leave it out)")
    fixed = problem.geometry.thickness, problem.geometry.tilts
    advice = f"no tile of {fixed[0]} slices and {fixed[1]} tilts is small enough; give"
    if keys:
        advice = f"what fits is {', or '.join(keys)}; or give"
    return PlanError(
        "memory",
        shown(memory),
        f"is less than the {shown(least)} that a worker needs for the smallest tile, "
        f"{problem.geometry.thickness} x {rows} rows x {length} columns, with windows of "
        f"{problem.lattice.width} columns",
        f"{advice} at least {shown(math.ceil(least))}",
    )


def _tile_rows(problem: Problem, length: int) -> int:
    """Rows of a tile if nobody says: a block, or if coupled enough work per exchange.

    That does not depend on the number of workers, so a run that is resumed elsewhere is cut the
    same way. Tiles that share rows own as many as they read beyond.
    """
    g, block = problem.geometry, problem.rows_per_call
    columns, _ = columns_and_margin(g, problem.config)
    if columns >= g.field and not problem.halo:
        return block
    blocks = max(1, COUPLED_VOXELS // (g.thickness * block * length))
    rows = block * min(blocks, math.ceil(g.rows / block))
    return max(rows, min(2 * problem.halo, math.ceil(g.rows / block) * block))


def _pixels_read(tiles: Iterable[Tile], geometry: Geometry) -> int:
    """Per tilt: each tile reads the detector columns that show its columns, at most all."""
    return sum(
        tile.read_box.shape[1] * min(geometry.field, tile.read_box.shape[2]) for tile in tiles
    )
