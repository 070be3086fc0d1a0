"""The plan: how a problem is cut up, what it will cost, and whether it can work at all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.errors import PlanError
from ddgm_dist.plan.calls import denoiser_calls
from ddgm_dist.plan.config import PlanConfig, ProblemConfig
from ddgm_dist.plan.memory import MIB, MemoryModel
from ddgm_dist.plan.problem import Problem
from ddgm_dist.plan.tiling import (
    Tile,
    chunk_columns,
    default_margin,
    equal_columns,
    make_tiles,
)

__all__ = ["Plan", "columns_and_margin", "make_plan", "widest_read"]

# Domains up to this width are solved whole unless tile_columns says otherwise.
WHOLE_WIDTH = 8192
COUPLED_WIDTH = 4096
# Voxels of a coupled tile, about: an iteration of one takes a GPU a few tenths of a second.
COUPLED_VOXELS = 2**24


@dataclass(frozen=True)
class Plan:
    """How a problem is computed.

    Attributes
    ----------
    tiles
        All tiles, group by group; tiles of a group are coupled.
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
        Projected memory of one worker.
    denoiser_calls
        Over all tiles and iterations.
    bytes_read, bytes_written, bytes_exchanged
        Input and output of the run; halos per iteration.
    """

    tiles: tuple[Tile, ...]
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
    bytes_exchanged: int
    iterations: int

    @property
    def groups(self) -> tuple[tuple[Tile, ...], ...]:
        """Tiles by coupled group."""
        return tuple(tuple(g) for _, g in groupby(self.tiles, key=lambda tile: tile.group))

    @property
    def voxels(self) -> int:
        """Voxels solved for in one iteration, halos included."""
        return sum(tile.read_box.size for tile in self.tiles)

    def describe(self) -> str:
        """A page for people."""
        z, y, x = self.shape
        first = self.tiles[0]
        owned = z * y * x
        along, across = (len({t.write_box.start[axis] for t in self.tiles}) for axis in (1, 2))
        lines = [
            f"volume          {z} x {y} x {x} voxels (z, y, x), {owned / 1e6:.4g} Mvoxel",
            f"tiles           {len(self.tiles)} ({along} along y, {across} along x)",
            f"first tile      writes {_box(first.write_box)}, reads {_box(first.read_box)}",
            f"order           {self.order}: {self._coupling(along, across)}",
            f"halo            {100 * (self.voxels / owned - 1):.1f} % of the volume is solved "
            "twice or lies outside the field",
            f"shards          {self.shard} voxels in chunks of {self.chunk}, one writer each",
            f"iterations      {self.iterations}",
            f"denoiser calls  {self.denoiser_calls}",
            f"bytes           {_bytes(self.bytes_read)} read, {_bytes(self.bytes_written)} "
            f"written, {_bytes(self.bytes_exchanged)} exchanged per iteration",
            f"worker memory   {_bytes(self.memory.total)} (libraries {_bytes(self.memory.BASE)}, "
            f"operator {_bytes(self.memory.operator)}, state {_bytes(self.memory.state)}, gradient "
            f"{_bytes(self.memory.block)}, denoiser {_bytes(self.memory.denoiser)})",
        ]
        return "\n".join(lines)

    def _coupling(self, along: int, across: int) -> str:
        if len(self.groups) == len(self.tiles):
            return "no tile talks to another"
        if len(self.groups) < along:
            return f"all {along} x {across} tiles are coupled, along y and x"
        return f"{across} coupled tiles along x"


def make_plan(
    problem: Problem,
    config: PlanConfig,
    *,
    length: int,
    memory: int | None = None,
    itemsize: int = 4,
) -> Plan:
    """Cut a problem into tiles and project its cost.

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

    Raises
    ------
    PlanError
        If tiles would not be whole shards, or even the smallest tile needs too much memory.
    """
    g = problem.geometry
    block = problem.rows_per_call
    tile_columns, margin = columns_and_margin(g, problem.config)
    shard = (g.thickness, block, tile_columns)
    coupled = tile_columns < g.field
    halo = problem.halo
    rows = config.tile_rows or (
        max(_coupled_rows(g, block, length), min(2 * halo, math.ceil(g.rows / block) * block))
        if coupled or halo
        else block
    )
    if rows % block:
        raise PlanError(
            "tile_rows",
            rows,
            f"is not a multiple of rows_per_call = {block}: a write box must be whole shards",
            f"try {block * max(1, round(rows / block))}",
        )

    def model(resident: int) -> MemoryModel:
        return MemoryModel(
            g.thickness,
            g.tilts,
            length,
            block,
            problem.lattice.width,
            resident_rows=min(resident + 2 * halo, max(resident, g.rows)),
        )

    if (coupled or halo) and memory is not None and config.tile_rows is None:
        while rows > block and model(rows).total > memory:
            rows = max(block, rows // 2 // block * block)
    needs = model(rows if coupled or halo else block)
    if memory is not None and needs.total > memory:
        raise PlanError(
            "memory",
            _bytes(memory),
            f"is less than the {_bytes(needs.total)} that a worker needs for the smallest tile, "
            f"{g.thickness} x {block} rows x {length} columns",
            f"give at least {_bytes(needs.total)}, or make tiles smaller with tile_columns (now "
            f"{tile_columns}), window (now {problem.lattice.width}) or rows_per_call (now {block})",
        )
    tiles = make_tiles(g, tile_rows=rows, tile_columns=tile_columns, margin=margin, halo=halo)
    exchanging = coupled or (halo > 0 and len(tiles) > 1)
    return Plan(
        tiles=tiles,
        shape=(g.thickness, g.rows, g.field),
        shard=shard,
        chunk=(g.thickness, block, chunk_columns(g.field)),
        margin=margin,
        length=length,
        order="step-major" if exchanging else "tile-major",
        memory=needs,
        denoiser_calls=denoiser_calls(tiles, problem),
        bytes_read=g.tilts * sum(tile.read_box.shape[1] for tile in tiles) * g.field * itemsize,
        bytes_written=4 * g.thickness * g.rows * g.field,
        bytes_exchanged=sum(
            4 * (tile.read_box.size - tile.write_box.size) for tile in tiles if exchanging
        ),
        iterations=problem.config.N,
    )


def columns_and_margin(geometry: Geometry, config: ProblemConfig) -> tuple[int, int]:
    """Width of tiles along x and the margin they read beyond it.

    As few equal tiles as ``tile_columns`` allows, rounded up to whole chunks.
    """
    wanted = config.tile_columns
    if wanted is None:
        wanted = geometry.field if geometry.field <= WHOLE_WIDTH else COUPLED_WIDTH
    return equal_columns(geometry.field, wanted), config.margin or default_margin(geometry)


def widest_read(geometry: Geometry, config: ProblemConfig) -> int:
    """Columns of the widest read box."""
    first, last = geometry.domain
    tile_columns, margin = columns_and_margin(geometry, config)
    if tile_columns >= geometry.field:
        return last - first
    return min(last - first, tile_columns + 2 * max(margin, -first))


def _coupled_rows(geometry: Geometry, block: int, length: int) -> int:
    """Rows of a coupled tile: enough work per exchange, however many workers there are.

    So a run that is resumed elsewhere is cut the same way.
    """
    blocks = COUPLED_VOXELS // (geometry.thickness * block * length)
    return block * min(max(1, blocks), math.ceil(geometry.rows / block))


def _bytes(count: int) -> str:
    return f"{count / MIB:.4g} MiB" if count < 1024 * MIB else f"{count / 1024 / MIB:.4g} GiB"


def _box(box: Box) -> str:
    return " x ".join(f"{a}:{b}" for a, b in zip(box.start, box.stop, strict=True))
