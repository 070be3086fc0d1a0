"""The brightest level of many pixels of a view, which is vacuum if the specimen absorbs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddgm_dist.errors import InputError
from ddgm_dist.views.statistics import QUANTILES

__all__ = ["LEVEL_PROBABILITIES", "brightest_level", "refuse_black"]

Floats = NDArray[np.float64]

# Probabilities at which quantiles show the level of vacuum best.
LEVEL_PROBABILITIES = tuple(i / 50 for i in range(1, 50))

# Density of the values at a maximum against the least one below it.
_PROMINENT = 2.0
# No beam comes through most of a view where so many values are below so small a share of the level.
_MANY, _BLACK = 0.2, 0.1
# Share of the pixels in an interval whose density is taken.
_WINDOW = 0.06


def brightest_level(quantiles: ArrayLike, probabilities: Sequence[float] = QUANTILES) -> Floats:
    """Brightest level at which many pixels lie, for each view; NaN where all pixels are equal.

    It is the middle of the interval of 6 % of the pixels, or a little more, in which values are densest.
    A maximum of the density at brighter values goes first, if some in between are half as dense or less.

    Parameters
    ----------
    quantiles
        Shape (views, probabilities).
    probabilities
        Of the quantiles, rising.
    """
    values = np.asarray(quantiles, dtype=np.float64)
    at = np.asarray(probabilities, dtype=np.float64)
    ends = np.searchsorted(at, at + _WINDOW - 1e-9)
    starts = np.flatnonzero(ends < len(at))
    ends = ends[starts]
    levels = np.full(len(values), np.nan)
    for view, row in enumerate(values):
        if not np.isfinite(row).all() or row[-1] <= row[0]:
            continue
        # Counts are whole numbers, so that quantiles may be equal.
        widths = np.maximum(row[ends] - row[starts], 1e-3 * (row[-1] - row[0]))
        density = (at[ends] - at[starts]) / widths
        best = int(np.argmax(density))
        for i in range(best + 1, len(density)):
            least = float(density[best:i].min())
            if density[i] > _PROMINENT * least and density[i] >= density[i:].max():
                best = i
        middle = (at[starts[best]] + at[ends[best]]) / 2
        levels[view] = float(np.interp(middle, at, row))
    return levels


def refuse_black(quantiles: Floats, levels: Floats) -> None:
    """Refuse levels beside which most is black: there the specimen may be what is bright.

    Parameters
    ----------
    quantiles
        Shape (views, probabilities).
    levels
        Brightest level of each view.

    Raises
    ------
    InputError
        In most views, most of what is darker than half of the level lets no beam through.
    """
    share = quantiles / np.where(levels > 0, levels, np.nan)[:, None]
    dark = share < 0.5
    black = ((share < _BLACK) & dark).sum(axis=1) > np.maximum(
        dark.sum(axis=1) / 2, _MANY * share.shape[1]
    )
    known = np.isfinite(levels)
    if black[known].mean() > 0.5:
        raise InputError(
            "counts",
            "auto",
            f"most of what is darker than the brightest level is below {_BLACK:.0%} of it, "
            "as vacuum is where the specimen is bright",
            "give --polarity bright, or the level by --counts I0",
        )
