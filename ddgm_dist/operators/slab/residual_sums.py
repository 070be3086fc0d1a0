"""The sums that say, view by view, how much of a residual is noise.

The residual of a good estimate is noise: pixels some way apart share none of it. A misfit extends over
the structures that it comes from, so pixels share it. The covariance at a lag therefore tells the two
apart, whatever the level of the noise. The lag is longer than the kernels that images are resampled
with, which correlate the noise of pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddgm_dist.core.view_sums import ViewSums
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator
from ddgm_dist.operators.slab.white_noise import noise_gain

__all__ = ["LAG", "sums_of_residual"]

# Detector columns between the samples whose covariance is taken.
LAG = 4


def sums_of_residual(
    operator: SlabOperator,
    residual: Tensor,
    data: SlabData,
    owned: slice = slice(None),
    *,
    lag: int = LAG,
) -> ViewSums:
    """Sums over one block of rows.

    Parameters
    ----------
    operator, data
        The operator, and the data of the block.
    residual
        ``S (b - A x)`` of the estimate, float32 ``(tilt, rows, length)``.
    owned
        Columns of the stretched grid that count.
    lag
        Detector columns between the samples whose covariance is taken.
    """
    start = operator.grid_start
    gain = noise_gain(operator.geometry, start, start + operator.length).to(operator.device)
    gain = gain[:, None, owned]
    lags = [round(lag / math.cos(angle)) for angle in operator.geometry.angles]
    residual = residual[..., owned]
    measured = data.measured[..., owned].expand_as(residual)
    squared = residual.square().sum(dim=(1, 2), dtype=torch.float64)
    samples = (measured * gain).sum(dim=(1, 2), dtype=torch.float64)
    spread = _spread(data.stretched[..., owned], measured)
    shared = _shared(residual, measured, gain, lags) * samples
    return ViewSums(*(tuple(part.tolist()) for part in (squared, samples, spread, shared)))


def _spread(values: Tensor, measured: Tensor) -> Tensor:
    """Squared deviations of the measured samples from their mean, by view, float64 ``(tilt,)``."""
    count = measured.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    mean = (values * measured).sum(dim=(1, 2), keepdim=True) / count
    return (measured * (values - mean)).square().sum(dim=(1, 2), dtype=torch.float64)


def _shared(residual: Tensor, measured: Tensor, gain: Tensor, lags: list[int]) -> Tensor:
    """Covariance of samples at a lag along the rows, by view, float64 ``(tilt,)``."""
    found = []
    for r, s, g, lag in zip(residual, measured, gain, lags, strict=True):
        pairs = (s[:, :-lag] * s[:, lag:] * g[:, :-lag]).sum(dtype=torch.float64)
        product = (r[:, :-lag] * r[:, lag:]).sum(dtype=torch.float64)
        found.append(product / pairs if pairs > 0 else torch.zeros_like(pairs))
    return torch.stack(found)
