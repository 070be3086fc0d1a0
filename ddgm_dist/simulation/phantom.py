"""Procedural nervous tissue: a test specimen of any size, whose blocks are computed when read.

It imitates 8-bit FIB-SEM of neuropil at about 10 nm/voxel. It has cells and thin neurites of many
widths with touching dark membranes, mitochondria, vesicles and a fine texture. It is not a model of
any real brain. It serves to simulate tomograms of specimens far larger than memory, with structures
for which a denoiser trained on such tissue is a sensible prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.errors import InputError
from ddgm_dist.simulation.cells import CAP, Capsules, Coordinates, border_distance, paint
from ddgm_dist.simulation.lattice_noise import (
    directions,
    grain,
    hash_lattice,
    smooth_noise,
    uniform,
)
from ddgm_dist.simulation.organelles import add_mitochondria, bump, vesicles

__all__ = ["TissuePhantom"]

Floats = NDArray[np.float32]

# Voxels are computed tile by tile of the global grid, whatever box is read. A tile fits the cache,
# and fixes the origin of the float32 coordinates and the labels of cells.
_TILE: Triple = (48, 32, 64)


@dataclass(frozen=True)
class _CellKind:
    """A population of capsules, one for each cell of a cubic lattice; lengths in voxels."""

    salt: int
    spacing: int
    radius: tuple[float, float]
    length: tuple[float, float]


_KINDS = (
    _CellKind(1, 96, (18.0, 46.0), (0.0, 80.0)),
    _CellKind(2, 52, (8.0, 20.0), (0.0, 70.0)),
    _CellKind(3, 30, (2.0, 7.5), (12.0, 60.0)),
)
# (lattice spacing, amplitude) of the displacement that makes straight cells curve and bulge
_WARPS = ((48, 20.0), (14, 5.0))
_WARP_REACH = sum(amplitude for _, amplitude in _WARPS)


class TissuePhantom:
    """Procedural tissue as a volume that is read box by box.

    Every voxel is a function of its coordinates and the seed alone. So a box has the same bits as
    that part of any larger read, and the shape only sets where the volume ends. Grey levels are
    those of 8-bit FIB-SEM (mean about 130, standard deviation about 35, membranes dark), not
    rounded and not clipped to 0..255.

    Parameters
    ----------
    shape
        Extent (z, y, x), voxels.
    seed
        Seed of the tissue; another seed changes every voxel.

    Raises
    ------
    InputError
        If the shape is not three positive integers, or the seed is outside 0..2**64 - 1.
    """

    def __init__(self, shape: Triple, *, seed: int = 0) -> None:
        if len(shape) != 3 or min(shape) < 1:
            raise InputError("shape", shape, "must be three integers of at least 1", "try 64,64,64")
        if not 0 <= seed < 2**64:
            raise InputError("seed", seed, "must lie within 0..2**64 - 1")
        self.shape: Triple = (int(shape[0]), int(shape[1]), int(shape[2]))
        self.dtype: np.dtype[Any] = np.dtype(np.float32)
        self.seed = int(seed)

    def read(self, box: Box) -> Floats:
        """Grey levels of the box, shape ``box.shape``; IndexError when it leaves the volume."""
        if not Box((0, 0, 0), self.shape).contains(box):
            raise IndexError(f"box {box.start}..{box.stop} is not within the shape {self.shape}")
        values = np.empty(box.shape, np.float32)
        if box.size == 0:
            return values
        first = [a // n for a, n in zip(box.start, _TILE, strict=True)]
        counts = [-(-b // n) - f for b, n, f in zip(box.stop, _TILE, first, strict=True)]
        for step in np.ndindex(*counts):
            z, y, x = ((f + s) * n for f, s, n in zip(first, step, _TILE, strict=True))
            tile = Box((z, y, x), (z + _TILE[0], y + _TILE[1], x + _TILE[2]))
            part = tile.intersection(box)
            assert part is not None
            values[part.slices(box.start)] = _render(self.seed, tile.start, part)
        return values


def _render(seed: int, origin: Triple, box: Box) -> Floats:
    """Grey levels of a box within the tile at ``origin``."""
    (z0, y0, x0), (z1, y1, x1) = box.start, box.stop
    sharp = _sharp(seed, origin, Box((z0 - 1, y0 - 1, x0 - 1), (z1 + 1, y1 + 1, x1 + 1)))
    grey = _blur(sharp)
    grey += grain(seed, 24, 5.0, box)
    return grey


def _blur(sharp: Floats) -> Floats:
    """Blur with (1, 2, 1) / 4 along each axis, as a microscope does; crops one voxel on every side."""
    along_z = sharp[:-2] + sharp[2:]
    along_z += 2 * sharp[1:-1]
    along_y = along_z[:, :-2] + along_z[:, 2:]
    along_y += 2 * along_z[:, 1:-1]
    along_x: Floats = along_y[..., :-2] + along_y[..., 2:]
    along_x += 2 * along_y[..., 1:-1]
    along_x *= np.float32(1 / 64)
    return along_x


def _sharp(seed: int, origin: Triple, box: Box) -> Floats:
    """Grey levels before blur and grain; the box may reach one voxel beyond the tile."""
    at = _warped(seed, origin, box)
    cells = _cells_near(seed, origin)
    inside, outside, label, beside = paint(cells, at)
    outside -= inside
    depth = border_distance(cells, at, outside, label, beside)

    key = np.concatenate([hash_lattice(seed, 30, (0, 0, 0), (1, 1, 1)).ravel(), cells.key])
    grey = _cytoplasm(key)[label]
    grey += grain(seed, 21, 15.0, box)  # becomes a texture of about 3 voxels by the blur
    grey += np.float32(40.0) * smooth_noise(seed, 22, 9, box)
    puncta = np.maximum(smooth_noise(seed, 25, 4, box) - np.float32(0.15), np.float32(0))
    grey -= np.float32(150.0) * puncta
    grey -= vesicles(seed, box, _vesicle_share(key)[label])
    add_mitochondria(grey, cells, at, label, outside)
    # Membranes come last. Each is a pair of leaflets and the cleft between, darker in some stretches.
    level = np.float32(91.0) + np.float32(60.0) * smooth_noise(seed, 23, 16, box)
    grey += bump(depth, 3.3) * (level - grey)
    return grey


def _warped(seed: int, origin: Triple, box: Box) -> Coordinates:
    """Displaced coordinates of the box's voxels, relative to the tile's origin."""
    axes = []
    for axis in range(3):
        along = np.arange(box.start[axis], box.stop[axis]) - origin[axis]
        column = [1, 1, 1]
        column[axis] = -1
        position = np.zeros(box.shape, np.float32)
        position += along.astype(np.float32).reshape(column)
        for k, (spacing, amplitude) in enumerate(_WARPS):
            shift = smooth_noise(seed, 10 + 3 * k + axis, spacing, box)
            shift *= np.float32(amplitude)
            position += shift
        axes.append(position)
    return Coordinates(*axes)


def _cells_near(seed: int, origin: Triple) -> Capsules:
    """Every cell that can reach the tile at ``origin``, in an order that depends on the tile alone."""
    parts = []
    for kind in _KINDS:
        reach = kind.radius[1] + kind.length[1] / 2 + CAP + _WARP_REACH + 1
        start = [int((o - reach) // kind.spacing) for o in origin]
        stop = [
            int((o + n + reach) // kind.spacing) + 1 for o, n in zip(origin, _TILE, strict=True)
        ]
        h = hash_lattice(
            seed, kind.salt, (start[0], start[1], start[2]), (stop[0], stop[1], stop[2])
        )
        corner = np.indices(h.shape).reshape(3, -1).T + np.array(start)
        h = h.ravel()
        jitter = np.stack([uniform(h, k) for k in range(3)], axis=-1)
        low, high = kind.radius
        cells = Capsules(
            centre=(corner + jitter) * kind.spacing - np.array(origin),
            axis=directions(h, 3),
            half=0.5 * (kind.length[0] + (kind.length[1] - kind.length[0]) * uniform(h, 15)),
            radius=low + (high - low) * uniform(h, 16) ** 2,
            key=h,
        )
        margin = cells.extent() + _WARP_REACH + 1.0  # 1: the halo of the blur
        near: NDArray[np.bool_] = (cells.centre > -margin) & (
            cells.centre < np.array(_TILE) + margin
        )
        parts.append(cells.keep(near[:, 0] & near[:, 1] & near[:, 2]))
    return Capsules.join(parts)


def _cytoplasm(key: NDArray[np.uint32]) -> Floats:
    """Grey level of each label's cytoplasm; label 0 is the dense glia between the cells."""
    u = uniform(key, 17)
    grey = np.where(u < 0.25, 104.0 + 140.0 * u, 154.0 + 38.0 * u)
    grey[0] = 112.0
    return grey.astype(np.float32)


def _vesicle_share(key: NDArray[np.uint32]) -> Floats:
    """Share of the vesicle lattice that is filled, for each label."""
    share = np.maximum(1.3 * uniform(key, 18) - 0.4, 0.0)
    share[0] = 0.2
    return share.astype(np.float32)
