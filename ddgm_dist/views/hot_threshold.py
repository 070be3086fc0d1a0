"""The distance by which a hot pixel of a view stands out, from robust measures of the view itself.

Parts of the view are sampled. In each, pixels stand out by some distance as
:mod:`ddgm_dist.pixels.hot_pixels` defines it, and 99 % of them by less than q. A hot pixel stands out by
5.2 q and more. In white noise that is 9 standard deviations, and for few counts more. It also stands
out by more than 3 robust standard deviations of the pixels about the median around them. So edges
without noise count too. The second largest of the parts' values holds for the view: its noisiest parts
count, where the beam is brightest, but not a single part.

Up to about a half percent of hot pixels, wherever they are, change the threshold little.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.pixels.hot_pixels import prominence

__all__ = ["STRIPS", "STRIP_ROWS", "estimate_threshold"]

# Strips of whole rows that are sampled, and their height; each is cut into so many parts.
STRIPS, STRIP_ROWS = 4, 40
_PARTS = 4
_PROBES, _LEAST_WIDTH = 2048, 48
_SHARE, _TAILS, _SPREADS = 0.99, 5.2, 3.0
# Half the difference of these two quantiles is 1.28 standard deviations, if normal.
_QUANTILES, _WIDTH = (0.1, 0.9), 2 * 1.2815515655
_AROUND = 3

Floats = NDArray[np.float32]


def estimate_threshold(strips: Sequence[Floats]) -> float | None:
    """The distance by which a hot pixel of a view stands out.

    Parameters
    ----------
    strips
        Parts of the view, ``(rows, columns)`` each, from all over it.

    Returns
    -------
    threshold
        In the unit of the pixels; None where nothing varies.
    """
    found = list[float]()
    for strip in strips:
        parts = max(1, min(_PARTS, strip.shape[1] // _LEAST_WIDTH))
        for part in np.array_split(strip, parts, axis=1):
            value = _of_part(np.ascontiguousarray(part))
            if value is not None:
                found.append(value)
    found.sort()
    largest = found[-2:]  # the second largest, or the only one
    return largest[0] if largest and largest[0] > 0 else None


def _of_part(part: Floats) -> float | None:
    places = np.unique(np.linspace(0, part.size - 1, _PROBES).astype(np.int64))
    row, column = np.unravel_index(places, part.shape)
    finite = np.isfinite(part[row, column])
    row, column = row[finite].astype(np.int64), column[finite].astype(np.int64)
    if len(row) < 16:
        return None
    far = prominence(part[None], (np.zeros_like(row), row, column))
    inner = np.nan_to_num(_about_the_median(part, row, column))
    low, high = np.quantile(inner, _QUANTILES)
    tail = float(np.quantile(far, _SHARE))
    return max(_TAILS * tail, _SPREADS * float(high - low) / _WIDTH)


def _about_the_median(
    part: Floats, row: NDArray[np.int64], column: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Each pixel less the median of the 7 x 7 pixels around it."""
    offset = np.arange(-_AROUND, _AROUND + 1)
    rows = np.clip(row[:, None] + offset, 0, part.shape[0] - 1)
    columns = np.clip(column[:, None] + offset, 0, part.shape[1] - 1)
    around = part[rows[:, :, None], columns[:, None, :]].reshape(len(row), -1).astype(np.float64)
    around = np.sort(np.where(np.isfinite(around), around, np.nan), axis=1)
    count = np.isfinite(around).sum(axis=1)
    line, last = np.arange(len(row)), np.maximum(count - 1, 0)
    middle = (around[line, last // 2] + around[line, (last + 1) // 2]) / 2
    less: NDArray[np.float64] = part[row, column] - middle
    return less
