"""Random fields and capsule-shaped cells computed from global coordinates alone.

Everything here is a function of the seed and of integer lattice coordinates (a counter-based
hash), so any block of an unlimited volume can be made without its neighbours. Voxels are only ever
combined by exactly rounded operations (+ - * / sqrt, integer operations): the bits of a voxel do
not depend on the block it is computed in, whatever vector instructions numpy picks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box, Triple

__all__ = ["CAP", "Capsules", "Coordinates", "hash_lattice", "paint", "smooth_noise", "uniform"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Hashes = NDArray[np.uint32]

CAP = 3.5
"""Voxels beyond its surface that a capsule still claims; what no capsule claims is label 0."""

# A painted value is distance and label in one int32, so that one integer minimum carries both:
# (distance + OFFSET) * SCALE in the high 20 bits, the label in the low 11.
_OFFSET, _SCALE, _LABEL_BITS = 48.0, 8192.0, 11


def _mix(h: Hashes) -> Hashes:
    """Bijective scrambling of 32 bits (the constants of C. Wellons' lowbias32)."""
    h = h ^ (h >> np.uint32(16))
    h *= np.uint32(0x7FEB352D)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x846CA68B)
    h ^= h >> np.uint32(16)
    return h


def hash_lattice(seed: int, salt: int, start: Triple, stop: Triple) -> Hashes:
    """One 32-bit hash for each lattice point of ``start <= point < stop``, shape ``(z, y, x)``."""
    key = np.array([seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF, salt], np.uint32)
    h = np.zeros(1, np.uint32)
    for word in key:
        h = _mix(h * np.uint32(0x9E3779B1) + word + np.uint32(1))
    for axis, (a, b) in enumerate(zip(start, stop, strict=True)):
        steps = (np.arange(a, b, dtype=np.int64) & 0xFFFFFFFF).astype(np.uint32)
        steps *= np.uint32(0x85EBCA6B)
        h = _mix(h + steps if axis == 0 else h[..., None] + steps)
    return h


def uniform(h: Hashes, draw: int) -> Doubles:
    """The ``draw``-th number in [0, 1) of each hash."""
    bits = _mix(h + np.uint32((draw + 1) * 0x9E3779B9 & 0xFFFFFFFF)) >> np.uint32(8)
    return bits * 2.0**-24


def smooth_noise(seed: int, salt: int, spacing: int, box: Box) -> Floats:
    """Cubic B-spline through uniform lattice values of -1..1: C2, bounded by 1, std about 0.2.

    Parameters
    ----------
    spacing
        Lattice spacing in voxels: the correlation length is about 1.5 times that.
    box
        Voxels wanted.

    Returns
    -------
    Array of the box's shape.
    """
    first = [a // spacing - 1 for a in box.start]
    last = [(b - 1) // spacing + 3 for b in box.stop]
    h = hash_lattice(seed, salt, (first[0], first[1], first[2]), (last[0], last[1], last[2]))
    values = (uniform(h, 0) * 2.0 - 1.0).astype(np.float32)
    for axis in (2, 1, 0):  # x first, while the array is small; z last, where rows are copied whole
        voxel = np.arange(box.start[axis], box.stop[axis])
        node = voxel // spacing - 1 - first[axis]
        t = (voxel % spacing) / spacing
        weights = (
            (1 - t) ** 3 / 6,
            (3 * t**3 - 6 * t**2 + 4) / 6,
            (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
            t**3 / 6,
        )
        column = [1, 1, 1]
        column[axis] = -1
        total: Floats | None = None
        for k, weight in enumerate(weights):
            term = values.take(node + k, axis=axis)
            term *= weight.astype(np.float32).reshape(column)
            if total is None:
                total = term
            else:
                total += term
        assert total is not None
        values = total
    return values


@dataclass(frozen=True)
class Capsules:
    """Segments with a radius; coordinates are voxels relative to the origin of a tile.

    ``centre`` and ``axis`` (unit vectors) have shape ``(n, 3)`` (z, y, x); ``half`` (half the
    length of the segment), ``radius`` and ``key`` (the hash that addresses everything else about
    the capsule) have shape ``(n,)``.
    """

    centre: Doubles
    axis: Doubles
    half: Doubles
    radius: Doubles
    key: Hashes

    def extent(self) -> Doubles:
        """Half the bounding box of what each capsule claims, shape ``(n, 3)``."""
        reach: Doubles = np.abs(self.axis) * self.half[:, None] + (self.radius + CAP)[:, None]
        return reach

    def keep(self, mask: NDArray[np.bool_]) -> Capsules:
        """Those where the mask is true, in order."""
        return Capsules(
            self.centre[mask], self.axis[mask], self.half[mask], self.radius[mask], self.key[mask]
        )

    @staticmethod
    def join(parts: list[Capsules]) -> Capsules:
        """All capsules of the parts, in order."""
        return Capsules(
            np.concatenate([p.centre for p in parts]),
            np.concatenate([p.axis for p in parts]),
            np.concatenate([p.half for p in parts]),
            np.concatenate([p.radius for p in parts]),
            np.concatenate([p.key for p in parts]),
        )


class Coordinates:
    """Warped coordinates of a block's voxels, with the bounds that tell which capsules reach it."""

    def __init__(self, z: Floats, y: Floats, x: Floats) -> None:
        self.z, self.y, self.x = z, y, x
        self._z_bounds = z.min(axis=(1, 2)), z.max(axis=(1, 2))
        self._y_bounds = y.min(axis=(0, 2)), y.max(axis=(0, 2))
        self._x_bounds = np.array([x.min()]), np.array([x.max()])

    def crop(self, centre: Doubles, extent: Doubles) -> tuple[slice, slice] | None:
        """Planes and rows that can hold voxels within ``extent`` of ``centre``; None if none can.

        Rows are kept whole, so that a crop is made of long contiguous runs.
        """
        found = []
        for axis, (low, high) in enumerate((self._z_bounds, self._y_bounds, self._x_bounds)):
            # One hundredth of a voxel covers the rounding of float32 coordinates.
            reach = extent[axis] + 0.01
            near = (low < centre[axis] + reach) & (high > centre[axis] - reach)
            if not near.any():
                return None
            found.append(slice(int(near.argmax()), len(near) - int(near[::-1].argmax())))
        return found[0], found[1]


def paint(
    capsules: Capsules, at: Coordinates
) -> tuple[Floats, Floats, NDArray[np.int32], NDArray[np.int32]]:
    """Distances to the nearest and the second nearest capsule surface, and both their labels.

    Label ``i + 1`` is capsule ``i``; where nothing is nearer than `CAP` the label is 0 and the
    distance is `CAP`. Distances are negative inside. Capsules that do not reach the block do not
    change the result, so leaving them out of the loop is safe.
    """
    if len(capsules.half) >= 1 << _LABEL_BITS:
        raise AssertionError("more capsules in one tile than a label can hold")
    ceiling = np.float32((CAP + _OFFSET) * _SCALE)
    nearest = np.full(at.z.shape, int(ceiling) << _LABEL_BITS, np.int32)
    second = nearest.copy()
    extents = capsules.extent()
    for i, (centre, extent) in enumerate(zip(capsules.centre, extents, strict=True)):
        crop = at.crop(centre, extent)
        if crop is not None:
            value = _distance(capsules, i, at, crop)
            value += np.float32(_OFFSET)
            value *= np.float32(_SCALE)
            np.minimum(value, ceiling, out=value)
            packed = value.astype(np.int32)
            packed <<= _LABEL_BITS
            packed |= i + 1
            best, other = nearest[crop], second[crop]
            np.minimum(other, np.maximum(best, packed), out=other)
            np.minimum(best, packed, out=best)
    mask = np.int32((1 << _LABEL_BITS) - 1)
    return _unpack(nearest), _unpack(second), nearest & mask, second & mask


def _distance(capsules: Capsules, i: int, at: Coordinates, crop: tuple[slice, slice]) -> Floats:
    """Signed distance of the crop's voxels to the surface of capsule ``i``."""
    cz, cy, cx = capsules.centre[i].astype(np.float32)
    uz, uy, ux = capsules.axis[i].astype(np.float32)
    half = np.float32(capsules.half[i])
    dz, dy, dx = at.z[crop] - cz, at.y[crop] - cy, at.x[crop] - cx
    along = dz * uz
    step = dy * uy
    along += step
    np.multiply(dx, ux, out=step)
    along += step
    for d in (dz, dy, dx):
        np.multiply(d, d, out=d)
    dz += dy
    dz += dx
    # |p - t u|^2 = |p|^2 - t (2 p.u - t), t the foot point on the segment
    np.minimum(along, half, out=step)
    np.maximum(step, -half, out=step)
    along += along
    along -= step
    along *= step
    dz -= along
    np.maximum(dz, np.float32(0), out=dz)
    np.sqrt(dz, out=dz)
    dz -= np.float32(capsules.radius[i])
    return dz


def _unpack(packed: NDArray[np.int32]) -> Floats:
    """The distance part of painted values."""
    distance = (packed >> _LABEL_BITS).astype(np.float32)
    distance *= np.float32(1 / _SCALE)
    distance -= np.float32(_OFFSET)
    return distance
