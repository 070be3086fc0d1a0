"""The footprint of a voxel on a tilted detector: the weights of `ddgm_dist.simulation.projector`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Footprint", "keys", "make_footprint"]

Array = NDArray[np.float64]
Floats = NDArray[np.float32]

# The table is read by linear interpolation: error below h^2 / 8 * max |p''| = 2.4e-6.
_TABLE_STEP = 1 / 512
# Midpoint samples of the footprint's integral, per voxel.
_SAMPLES = 32


def keys(distance: Array) -> Array:
    """Cubic convolution kernel (Keys 1981, a = -1/2), support 2 either way; any shape."""
    t = np.abs(distance)
    near = (1.5 * t - 2.5) * t * t + 1.0
    far = ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0
    return np.where(t < 1, near, np.where(t < 2, far, 0.0))


@dataclass(frozen=True)
class Footprint:
    """Contribution ``p(|s|)`` of one voxel to a detector pixel at distance s.

    ``value[i, k]`` is p at the distance ``i * step - support + k``, and ``rise[i, k]`` its increase
    to the next i. Row i is for voxels whose first pixel lies ``support - i * step`` before their
    centre; k counts the pixels from there.
    """

    value: Array
    rise: Array
    support: float

    @staticmethod
    def tabulated(table: Array, reach: float) -> Footprint:
        """The footprint with p given at the multiples of `_TABLE_STEP`, zero from ``reach`` on."""
        per_pixel = round(1 / _TABLE_STEP)
        ends = math.ceil(reach / _TABLE_STEP)
        taps = 2 * ends // per_pixel + 1
        node = np.arange(per_pixel + 2)[:, None] + per_pixel * np.arange(taps) - ends
        padded = np.concatenate([table, np.zeros(max(0, int(np.abs(node).max()) + 1 - len(table)))])
        value = padded[np.abs(node)]
        return Footprint(value[:-1], np.diff(value, axis=0), ends * _TABLE_STEP)

    def weigh(self, landing: Array, weight: Floats, pixel: NDArray[np.int32]) -> None:
        """Write pixels and weights ``(voxels, taps)`` of voxels that land at ``landing``."""
        first = np.ceil(landing - self.support)
        place = (first - landing + self.support) * (1 / _TABLE_STEP)
        row = place.astype(np.intp)
        rise = self.rise.take(row, axis=0)
        rise *= (place - row)[:, None]
        rise += self.value.take(row, axis=0)
        weight[...] = rise
        np.add(first.astype(np.int32)[:, None], np.arange(pixel.shape[1]), out=pixel)


def make_footprint(angle: float, oversample: int) -> Footprint:
    """The footprint at ``angle`` (radians), averaged over ``oversample`` rays of a pixel."""
    # The integral is symmetric in the two axes; dividing by the larger keeps it well sampled.
    small, large = sorted((abs(math.cos(angle)), abs(math.sin(angle))))
    reach = 2 * (small + large)
    s = np.arange(math.ceil((reach + 0.5) / _TABLE_STEP) + 2) * _TABLE_STEP
    v = (np.arange(4 * _SAMPLES) + 0.5) / _SAMPLES - 2
    weight = keys(v) / (_SAMPLES * large)
    line = np.zeros_like(s)
    for node, w in zip(v, weight, strict=True):
        line += w * keys((s - node * small) / large)
    ray = (np.arange(oversample) + 0.5) / oversample - 0.5
    table = np.mean([np.interp(np.abs(s + r), s, line, right=0.0) for r in ray], axis=0)
    return Footprint.tabulated(table, reach + 0.5)
