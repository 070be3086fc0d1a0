"""Number and size of the calls of a plan's networks: the denoiser, and a restorer at the start."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ddgm_dist.algorithm.planes import Plane
from ddgm_dist.core.window import WindowLattice
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.tiling import Tile

__all__ = [
    "call_shape",
    "calls_by_plane",
    "denoiser_calls",
    "largest_call",
    "restorer_call_shape",
    "restorer_calls",
]


def denoiser_calls(tiles: Sequence[Tile], problem: Problem) -> int:
    """Calls over all tiles and iterations, with the mean number of windows, rounded up."""
    return sum(calls_by_plane(tiles, problem).values())


def calls_by_plane(tiles: Sequence[Tile], problem: Problem) -> dict[Plane, int]:
    """Calls over all tiles and iterations, by plane."""
    planes = problem.config.planes
    turns = [planes[n % len(planes)] for n in range(problem.config.N)]
    return {
        plane: turns.count(plane) * sum(_calls(tile, problem, plane) for tile in tiles)
        for plane in dict.fromkeys(turns)
    }


def restorer_calls(tiles: Sequence[Tile], problem: Problem) -> int:
    """Calls of the restorer over all tiles, for each block and window that they read.

    A start that has a share in the result is made again at the end, so that nobody has to keep it.
    """
    if problem.restored is None:
        return 0
    lattice, block = problem.restored.lattice, problem.rows_per_call
    shapes = (tile.read_box.shape for tile in tiles)
    windows = sum(math.ceil(y / block) * _windows(lattice, x) for _, y, x in shapes)
    return problem.config.starts * problem.restored.calls * windows


def restorer_call_shape(problem: Problem) -> tuple[int, int, int, int]:
    """Number of images, channels, height and width of a restorer call; all 0 where there is none."""
    if problem.restored is None:
        return (0, 0, 0, 0)
    lattice, channels = problem.restored.lattice, 2 * problem.restored.restorer.neighbours + 1
    depth = -(-problem.geometry.thickness // lattice.stride) * lattice.stride
    return (problem.rows_per_call, channels, depth, lattice.width)


def call_shape(problem: Problem, plane: Plane) -> tuple[int, int, int]:
    """Number of images, height and width of a denoiser call."""
    stride = problem.lattice.stride
    depth = -(-problem.geometry.thickness // stride) * stride
    across = problem.lattice.width
    along = 0 if problem.lattice_rows is None else problem.lattice_rows.width
    images = {"zx": (depth, across), "zy": (depth, along), "yx": (along, across)}
    return (problem.slices_per_call(plane), *images[plane])


def largest_call(problem: Problem) -> int:
    """Voxels of the largest denoiser call."""
    return max(math.prod(call_shape(problem, plane)) for plane in problem.config.planes)


def _calls(tile: Tile, problem: Problem, plane: Plane) -> int:
    """Calls of one tile in one iteration, over the rows that it owns and the columns that it reads."""
    z, _, x = tile.read_box.shape
    y = tile.write_box.shape[1]
    slices = {"zx": y, "zy": x, "yx": z}[plane]
    windows = 1 if plane == "zy" else _windows(problem.lattice, x)
    if plane != "zx" and problem.lattice_rows is not None:
        windows *= _windows(problem.lattice_rows, y)
    return windows * math.ceil(slices / problem.slices_per_call(plane))


def _windows(lattice: WindowLattice, extent: int) -> int:
    """Windows that carry weight within an extent."""
    if lattice.single:
        return 1
    pitch = lattice.width - lattice.overlap
    return math.ceil((extent + lattice.width - lattice.overlap // 2) / pitch)
