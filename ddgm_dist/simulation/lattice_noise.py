"""Random numbers and random fields that are functions of global coordinates alone.

All numbers are counter-based hashes of the seed and of integer lattice coordinates. So any block of
an unlimited volume can be made without its neighbours. Voxels are only ever combined by exactly
rounded operations, so their bits do not depend on the block they are computed in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box, Triple

__all__ = ["directions", "grain", "hash_lattice", "smooth_noise", "uniform"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Hashes = NDArray[np.uint32]


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
    return bits.astype(np.float64) * 2.0**-24


def smooth_noise(seed: int, salt: int, spacing: int, box: Box) -> Floats:
    """Cubic B-spline through uniform lattice values of -1..1: C2, bounded by 1, std about 0.2.

    Parameters
    ----------
    spacing
        Lattice spacing in voxels: the correlation length is about 1.5 times that.
    box
        Voxels to compute.

    Returns
    -------
    ndarray
        Float32, shape of the box.
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


def directions(h: Hashes, draw: int) -> Doubles:
    """Unit vectors, nearly isotropic: each component is a sum of four uniform numbers.

    Uses draws ``draw .. draw + 11``.
    """
    components = []
    for axis in range(3):
        total = np.full(h.shape, -2.0)
        for k in range(4):
            total += uniform(h, draw + 4 * axis + k)
        components.append(total)
    z, y, x = components
    length = np.maximum(np.sqrt(z * z + y * y + x * x), 1e-6)
    return np.stack([z / length, y / length, x / length], axis=-1)


def grain(seed: int, salt: int, std: float, box: Box) -> Floats:
    """Independent, nearly normal noise of every voxel: the sum of the four bytes of its hash."""
    h = hash_lattice(seed, salt, box.start, box.stop)
    total = (h & np.uint32(0xFF)).astype(np.float32)
    for shift in (8, 16, 24):
        total += (h >> np.uint32(shift)) & np.uint32(0xFF)
    total -= np.float32(4 * 127.5)
    # A byte's variance is (256**2 - 1) / 12.
    total *= np.float32(std / np.sqrt(4 * 65535 / 12))
    return total
