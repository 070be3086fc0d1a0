"""Cut a problem into tiles whose memory fits a budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import groupby
from typing import Literal

from ddgm_dist.core.units import format_bytes
from ddgm_dist.errors import PlanError
from ddgm_dist.planning.advice import fitting_keys
from ddgm_dist.planning.calls import (
    denoiser_calls,
    largest_call,
    restorer_call_shape,
    restorer_calls,
)
from ddgm_dist.planning.config import PlanConfig
from ddgm_dist.planning.masks import masked_blocks
from ddgm_dist.planning.memory import ACTIVATION, MemoryModel
from ddgm_dist.planning.plan import Plan
from ddgm_dist.planning.presets import PresetUse
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.start_in_words import start_in_words
from ddgm_dist.planning.tiling import Tile, columns_and_margin, make_tiles
from ddgm_dist.planning.traffic import traffic

__all__ = ["COUPLED_VOXELS", "make_plan"]

# Voxels of a coupled tile, about. One iteration of it takes a GPU a few tenths of a second.
COUPLED_VOXELS = 2**24


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
    restorer_activation: float = 64.0,
) -> Plan:
    """Cut a problem into tiles and project its cost.

    Cuts along x belong to the problem and do not depend on the memory. The rows of coupled tiles and
    the place of their states are chosen to fit it.

    Parameters
    ----------
    problem, config
        The problem; plan keys.
    length
        Period of the Fourier transform of the widest read box (:func:`widest_read`), columns.
    memory
        Bytes one worker may use; unbounded when None.
    itemsize
        Bytes per pixel of the stored tilt series.
    workers, calls
        Workers that share the tiles; concurrent calls of each (two of a Ray worker).
    activation, restorer_activation
        Bytes per voxel of a denoiser call and of a restorer call.

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
        found = _model(problem, length, rows, calls=calls, activation=activation)
        return replace(found, restorer_activation=restorer_activation)

    def needs(problem: Problem, length: int, rows: int) -> int:
        found = model(problem, length, rows)
        return found.resident(found.calls) if config.state == "memory" else found.total

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
        memory=worker,
        denoiser_calls=denoiser_calls(tiles, problem),
        restorer_calls=restorer_calls(tiles, problem),
        start=start_in_words(problem.to_dict()),
        bytes_read=g.tilts * itemsize * _pixels_read(tiles, problem)
        + (volume * samples if samples > 1 else 0),
        bytes_written=volume * (samples + 2 if samples > 1 else 1),
        traffic=traffic(groups, g.field, margin, block),
        iterations=problem.config.N,
        workers=workers,
        state=_state(config.state, worker, tiles.kept(workers), memory) if coupled else "none",
        budget=memory,
        preset=PresetUse.of(config.preset, problem.config.model_dump()),
    )


def _state(
    asked: Literal["auto", "memory", "store"], model: MemoryModel, tiles: int, budget: int | None
) -> Literal["memory", "store"]:
    if asked != "auto":
        return asked
    return "memory" if budget is None or model.resident(tiles) <= budget else "store"


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
        restorer_call=restorer_call_shape(problem),
        masked=masked_blocks(problem, rows),
        proximal=problem.config.step_rule == "proximal",
    )


def _too_large(
    problem: Problem,
    length: int,
    rows: int,
    memory: int,
    needs: Callable[[Problem, int, int], int],
    asked_rows: int | None,
) -> PlanError:
    """The error that states the memory needed, and the keys with which the problem would fit."""
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
        format_bytes(memory),
        f"is less than the {format_bytes(least)} that a worker needs for the smallest tile, "
        f"{problem.geometry.thickness} x {rows} rows x {length} columns, with windows of "
        f"{problem.lattice.width} columns",
        f"{advice} at least {format_bytes(math.ceil(least))}",
    )


def _tile_rows(problem: Problem, length: int) -> int:
    """Default rows of a tile: a block, or if coupled enough work per exchange.

    They do not depend on the number of workers, so a run that resumes elsewhere is cut the same way.
    Tiles that share rows own as many as they read beyond.
    """
    g, block = problem.geometry, problem.rows_per_call
    columns, _ = columns_and_margin(g, problem.config)
    if columns >= g.field and not problem.halo:
        return block
    blocks = max(1, COUPLED_VOXELS // (g.thickness * block * length))
    rows = block * min(blocks, math.ceil(g.rows / block))
    return max(rows, min(2 * problem.halo, math.ceil(g.rows / block) * block))


def _pixels_read(tiles: Iterable[Tile], problem: Problem) -> int:
    """Pixels of one tilt that all tiles read; a tile reads as many columns as it has, at most all.

    A restorer's neighbours are read once more for each block.
    """
    field, total = problem.geometry.field, 0
    for tile in tiles:
        rows = tile.read_box.shape[1] + _rows_around(tile, problem)
        total += rows * min(field, tile.read_box.shape[2])
    return total


def _rows_around(tile: Tile, problem: Problem) -> int:
    """Rows of the volume beside the blocks of a tile that its start reads."""
    if problem.restored is None:
        return 0
    near, block = problem.restored.restorer.neighbours, problem.rows_per_call
    last, found = problem.geometry.rows, 0
    for y in range(tile.read_box.start[1], tile.read_box.stop[1], block):
        found += min(y, near) + max(0, min(last, y + block + near) - (y + block))
    return problem.config.starts * found
