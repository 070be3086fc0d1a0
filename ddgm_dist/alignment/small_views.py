"""Views of a series at a coarse resolution, read once in blocks of rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.tilts.digests import CHUNK_ROWS
from ddgm_dist.tilts.reader import TiltSeries

__all__ = ["SmallViews", "read_small_views"]

# Edge of a square of as many pixels as a small view has at most.
_EDGE = 256
_BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class SmallViews:
    """Means over square blocks of all views.

    Attributes
    ----------
    images
        Float64 ``(tilt, rows, columns)``; NaN where nothing was measured.
    block
        Edge of the blocks, pixels of the series.
    """

    images: NDArray[np.float64]
    block: int


def read_small_views(
    series: TiltSeries, *, report: Callable[[float], None] | None = None
) -> SmallViews:
    """Read a series block by block.

    Rows and columns that fill no block are left out evenly on both sides, so that the middle stays the
    middle to half a pixel.

    Parameters
    ----------
    series
        Open series.
    report
        Called with the share that has been read.
    """
    tilts, height, width = series.shape
    block = max(1, math.ceil(math.sqrt(height * width) / _EDGE))
    rows, columns = max(1, height // block), max(1, width // block)
    tall, wide = min(block, height), min(block, width)
    top, left = (height - rows * tall) // 2, (width - columns * wide) // 2
    images = np.full((tilts, rows, columns), np.nan)
    step = max(1, _BLOCK_BYTES // (4 * tilts * width * tall))
    # Chunks are eight rows high, so a part of whole chunks reads none of them twice.
    step = max(step, -(-CHUNK_ROWS // tall))
    for first in range(0, rows, step):
        stop = min(first + step, rows)
        part = series.read(slice(top + first * tall, top + stop * tall)).astype(np.float64)
        part = part[:, :, left : left + columns * wide]
        part = part.reshape(tilts, stop - first, tall, columns, wide)
        finite = np.isfinite(part)
        count = finite.sum(axis=(2, 4))
        total = np.where(finite, part, 0.0).sum(axis=(2, 4))
        known = count * 2 > tall * wide
        images[:, first:stop][known] = total[known] / count[known]
        if report is not None:
            report(stop / rows)
    return SmallViews(images, block)
