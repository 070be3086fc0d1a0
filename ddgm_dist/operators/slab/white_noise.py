"""White noise on the detector, as stretching leaves it: the unit of a tile's residual.

A stretched sample is ``sqrt(cos(theta))`` times a weighted sum of detector samples. Its variance is
therefore ``cos(theta)`` times the sum of the squared weights. Between two detector samples that sum is
less than 1, for the kernel is of finite length. A shift along y is another weighted sum, over rows.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.operators.slab.stretch import HALF_WIDTH, interpolation_taps, stretched_positions

__all__ = ["noise_gain", "row_noise_gain"]

# Half the support of `interpolate_rows`.
_ROW_HALF_WIDTH = 4
# Columns that are computed at a time.
_PIECE = 1024


@lru_cache(maxsize=8)
def noise_gain(geometry: Geometry, start: int, stop: int) -> Tensor:
    """Variance of stretched samples, of white noise of unit variance on the detector.

    Parameters
    ----------
    geometry
        Geometry of the tilt series.
    start, stop
        Columns of the stretched grid.

    Returns
    -------
    Tensor
        Float32 ``(tilt, stop - start)``, on the CPU; shared by all callers, who must not change it.
    """
    gain = torch.empty((geometry.tilts, stop - start))
    for tilt, angle in enumerate(geometry.angles):
        dy, dx = geometry.shift(tilt)
        position = stretched_positions(angle, dx, start, stop, geometry.field)
        scale = math.cos(angle) * row_noise_gain(dy)
        for i in range(0, stop - start, _PIECE):
            part = _squared_weights(position[i : i + _PIECE], geometry.field, HALF_WIDTH)
            gain[tilt, i : i + _PIECE] = part * scale
    return gain


def row_noise_gain(dy: float) -> float:
    """Variance of rows that were shifted by dy, of white noise of unit variance on the detector."""
    if dy == round(dy):
        return 1.0
    middle = torch.tensor([_ROW_HALF_WIDTH + dy - math.floor(dy)], dtype=torch.float64)
    return float(_squared_weights(middle, 4 * _ROW_HALF_WIDTH, _ROW_HALF_WIDTH))


def _squared_weights(position: Tensor, samples: int, half_width: int) -> Tensor:
    """Sum of the squared weights of a line's samples in each interpolated value, float64.

    Beyond the line's ends several taps read its end sample: their weights are added first.
    """
    index, weight = interpolation_taps(position, samples, half_width)
    low, high = index == 0, (index == samples - 1) & (index > 0)
    total = (weight * ~(low | high)).square().sum(dim=1)
    for end in (low, high):
        total += (weight * end).sum(dim=1).square()
    return total
