"""Statistics of one view, from one pass over its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["QUANTILES", "THUMBNAIL", "ViewStatistics"]

QUANTILES = (0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)
# Largest edge of a thumbnail, pixels.
THUMBNAIL = 256


@dataclass(frozen=True)
class ViewStatistics:
    """Figures of one view as it is stored, before anything is changed.

    Attributes
    ----------
    digest
        SHA-256 of the pixels as float32, little endian, row by row.
    low, high, mean, std
        Of the finite pixels, in stored units; NaN where there is none.
    quantiles
        At `QUANTILES`, from a sample of the pixels that is spread evenly.
    nonfinite
        Pixels that are NaN or infinite.
    zeros
        Pixels that are not above the value without a beam, of those that are used. Hot pixels and those
        that are not finite are left out.
    at_high
        Share of the pixels that have the largest value.
    threshold
        Distance by which a hot pixel stands out, stored units. It is None where it cannot be
        estimated, where none was searched for, and where the view is ``crowded``.
    hot
        Hot pixels, see :mod:`ddgm_dist.views.despike`; 0 without a threshold.
    thumbnail
        Mean over square blocks of ``block`` pixels, float32, at most `THUMBNAIL` pixels high and wide.
        Hot pixels and those that are not finite are left out; a block without others is NaN. The first
        block begins at the first pixel, and pixels beyond the last whole block are left out.
    block
        Edge of the thumbnail's blocks, pixels.
    crowded
        Whether more than 1 % of the pixels stand out. So many are no faults but what the data are.
    """

    digest: str
    low: float
    high: float
    mean: float
    std: float
    quantiles: tuple[float, ...]
    nonfinite: int
    zeros: int
    at_high: float
    threshold: float | None
    hot: int
    thumbnail: NDArray[np.float32]
    block: int
    crowded: bool = False
