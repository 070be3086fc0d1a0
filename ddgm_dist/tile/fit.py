"""The sums that say how well the final estimate of a tile explains its data, view by view.

The residual of a good estimate is noise: pixels some way apart share none of it. A misfit extends over
the structures that it comes from, so pixels share it. The covariance at a lag therefore tells the two
apart, whatever the level of the noise. The lag is longer than the kernels that images are resampled
with, which correlate the noise of pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddgm_dist.core.box import Box
from ddgm_dist.core.view_sums import ViewSums
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator
from ddgm_dist.operators.slab.white_noise import noise_gain
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.tile.measured import TileData, blocks

__all__ = ["LAG", "fit_of_tile", "sums_of_block"]

# Detector columns between the samples whose covariance is taken.
LAG = 4


def fit_of_tile(
    tile: Tile, estimate: Tensor, box: Box, data: TileData, rows_per_call: int
) -> ViewSums:
    """Sums of the squared residual over the samples that a tile owns.

    A stretched sample belongs to the tile that owns the column in which its ray crosses the middle of
    the slab. So each sample is counted once, however many tiles read it.

    Parameters
    ----------
    tile
        Any tile.
    estimate, box
        Estimate, float32 ``(z, rows, columns)``, over a box of the rows that the tile owns, or more,
        and all columns that it reads.
    data
        The tile's operator and data.
    rows_per_call
        Rows of a block.
    """
    operator, found = data.operator, ViewSums.zero(data.operator.geometry.tilts)
    owned = _owned(tile, operator)
    (z0, _, x0), (z1, _, x1) = box.start, box.stop
    rows = Box((z0, tile.write_box.start[1], x0), (z1, tile.write_box.stop[1], x1))
    for block in blocks(rows, rows_per_call):
        first = block.start[1] - box.start[1]
        given = estimate[:, first : first + block.shape[1]]
        part = torch.zeros(block.shape, device=estimate.device)
        part[:, : given.shape[1]] = given
        found += sums_of_block(operator, part, data.blocks[block.start[1]], owned)
    return found


def sums_of_block(
    operator: SlabOperator, estimate: Tensor, data: SlabData, owned: slice = slice(None)
) -> ViewSums:
    """Sums over one block of rows.

    Parameters
    ----------
    operator, data
        The operator, and the data of the block.
    estimate
        Float32 ``(z, rows, columns)``, over the operator's columns.
    owned
        Columns of the stretched grid that count.
    """
    start = operator.grid_start
    gain = noise_gain(operator.geometry, start, start + operator.length).to(operator.device)
    gain = gain[:, None, owned]
    lags = [round(LAG / math.cos(angle)) for angle in operator.geometry.angles]
    residual = operator.residual(estimate, data)[..., owned]
    measured = data.measured[..., owned].expand_as(residual)
    squared = residual.square().sum(dim=(1, 2), dtype=torch.float64)
    samples = (measured * gain).sum(dim=(1, 2), dtype=torch.float64)
    spread = _spread(data.stretched[..., owned], measured)
    shared = _shared(residual, measured, gain, lags) * samples
    return ViewSums(*(tuple(part.tolist()) for part in (squared, samples, spread, shared)))


def _owned(tile: Tile, operator: SlabOperator) -> slice:
    """Columns of the stretched grid that a tile owns; those at the field's ends have all beyond, too."""
    own, field = tile.write_box, operator.geometry.field
    start = 0 if own.start[2] == 0 else own.start[2] - operator.grid_start
    stop = operator.length if own.stop[2] == field else own.stop[2] - operator.grid_start
    return slice(start, stop)


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
