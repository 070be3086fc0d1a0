"""Capsule-shaped cells: labels of voxels, and distances to the border of the next cell.

Voxels are only ever combined by exactly rounded operations (+ - * / sqrt, integer operations). So
the bits of a voxel do not depend on its block, whatever instructions numpy picks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CAP", "Capsules", "Coordinates", "border_distance", "paint"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Hashes = NDArray[np.uint32]

CAP = 9.0
"""Width of the shell that a capsule claims beyond its surface, voxels. Unclaimed voxels are label 0."""

# A painted value is distance and label in one int32, so that one integer minimum carries both.
# (distance + OFFSET) * SCALE lies in the high 20 bits, the label in the low 11.
_OFFSET, _SCALE, _LABEL_BITS = 64.0, 8192.0, 11


@dataclass(frozen=True)
class Capsules:
    """Segments with a radius; coordinates are voxels relative to the origin of a tile.

    Attributes
    ----------
    centre, axis
        Centres and unit vectors (z, y, x), shape ``(n, 3)``.
    half, radius
        Half lengths of the segments and radii, voxels, shape ``(n,)``.
    key
        Hashes that address all other properties of the capsules, shape ``(n,)``.
    """

    centre: Doubles
    axis: Doubles
    half: Doubles
    radius: Doubles
    key: Hashes

    def extent(self) -> Doubles:
        """Half the bounding box that each capsule claims, voxels, shape ``(n, 3)``."""
        reach: Doubles = np.abs(self.axis) * self.half[:, None] + (self.radius + CAP)[:, None]
        return reach

    def keep(self, mask: NDArray[np.bool_]) -> Capsules:
        """The capsules where the mask is true, in order."""
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
    """Warped coordinates of a block's voxels, and bounds that select the capsules that reach it."""

    def __init__(self, z: Floats, y: Floats, x: Floats) -> None:
        self.z, self.y, self.x = z, y, x
        self._z_bounds = z.min(axis=(1, 2)), z.max(axis=(1, 2))
        self._y_bounds = y.min(axis=(0, 2)), y.max(axis=(0, 2))
        self._x_bounds = np.array([x.min()]), np.array([x.max()])

    def crops(self, centre: Doubles, extent: Doubles) -> list[tuple[int, slice, slice]]:
        """Index, planes and rows for every capsule that may reach the block, in order.

        Planes and rows are those that can hold voxels within ``extent`` of ``centre``, both of shape
        ``(n, 3)``. Rows are kept whole, so that a crop is made of long contiguous runs.
        """
        # One hundredth of a voxel covers the rounding of float32 coordinates.
        below, above = centre - (extent + 0.01), centre + (extent + 0.01)
        reached = np.ones(len(centre), dtype=bool)
        first, stop = [], []
        for axis, (low, high) in enumerate((self._z_bounds, self._y_bounds, self._x_bounds)):
            near = (low < above[:, axis, None]) & (high > below[:, axis, None])
            reached &= near.any(axis=1)
            first.append(near.argmax(axis=1))
            stop.append(near.shape[1] - near[:, ::-1].argmax(axis=1))
        return [
            (
                int(i),
                slice(int(first[0][i]), int(stop[0][i])),
                slice(int(first[1][i]), int(stop[1][i])),
            )
            for i in np.flatnonzero(reached)
        ]


def paint(
    capsules: Capsules, at: Coordinates
) -> tuple[Floats, Floats, NDArray[np.int32], NDArray[np.int32]]:
    """Distances to the nearest and the second nearest capsule surface, and both their labels.

    Label ``i + 1`` is capsule ``i``. Where no surface is nearer than `CAP` the label is 0 and the
    distance is `CAP`. Distances are negative inside. Capsules that do not reach the block do not
    change the result, so they are left out.
    """
    if len(capsules.half) >= 1 << _LABEL_BITS:
        raise AssertionError("more capsules in one tile than a label can hold")
    ceiling = np.float32((CAP + _OFFSET) * _SCALE)
    nearest = np.full(at.z.shape, int(ceiling) << _LABEL_BITS, np.int32)
    second = nearest.copy()
    for i, planes, rows in at.crops(capsules.centre, capsules.extent()):
        crop = planes, rows
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
    dz: Floats = at.z[crop] - cz
    dy, dx = at.y[crop] - cy, at.x[crop] - cx
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


def border_distance(
    capsules: Capsules,
    at: Coordinates,
    gap: Floats,
    label: NDArray[np.int32],
    beside: NDArray[np.int32],
) -> Floats:
    """Distance of each voxel to the border between its own label and the one beside it.

    Parameters
    ----------
    gap
        Difference of the two distances of `paint`. It grows with the distance from the border at a
        rate that depends on the angle between the two gradients, 2 where they are opposed. The
        result is divided by that rate, so that borders are equally wide everywhere.
    label, beside
        The two labels of `paint`.
    """
    mine, other = _towards(capsules, at, label), _towards(capsules, at, beside)
    cosine = mine[0] * other[0]
    for k in (1, 2):
        cosine += mine[k] * other[k]
    # |g - h|^2 = 2 - 2 g.h; at least 1, for two nearly parallel surfaces hardly have a border.
    cosine *= np.float32(-2)
    cosine += np.float32(2)
    np.maximum(cosine, np.float32(1), out=cosine)
    np.sqrt(cosine, out=cosine)
    np.divide(gap, cosine, out=cosine)
    return cosine


def _towards(capsules: Capsules, at: Coordinates, label: NDArray[np.int32]) -> list[Floats]:
    """Unit vectors from the labels' segments to the voxels; 0 for label 0."""
    zero = np.zeros((1, 3))
    centre = np.concatenate([zero, capsules.centre]).astype(np.float32)
    axis = np.concatenate([zero, capsules.axis]).astype(np.float32)
    half = np.concatenate([[0.0], capsules.half]).astype(np.float32)[label]
    vector = [p - centre[:, k].take(label) for k, p in enumerate((at.z, at.y, at.x))]
    along = np.zeros(label.shape, np.float32)
    axes = [axis[:, k].take(label) for k in range(3)]
    for v, u in zip(vector, axes, strict=True):
        along += v * u
    np.minimum(along, half, out=along)
    np.maximum(along, -half, out=along)
    square = np.full(label.shape, 1e-6, np.float32)
    for k in range(3):
        axes[k] *= along
        vector[k] -= axes[k]
        square += vector[k] * vector[k]
    np.sqrt(square, out=square)
    scale = np.divide(label > 0, square, dtype=np.float32)
    for k in range(3):
        vector[k] *= scale
    return vector


def _unpack(packed: NDArray[np.int32]) -> Floats:
    """The distance part of painted values."""
    distance = (packed >> _LABEL_BITS).astype(np.float32)
    distance *= np.float32(1 / _SCALE)
    distance -= np.float32(_OFFSET)
    return distance
