"""Pixels that cannot be stored: infinite ones, and values beside which float32 shows no contrast."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ddgm_dist.acquisition.options import IngestOptions
from ddgm_dist.acquisition.prepared import PreparedViews
from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.tilts.bad_pixels import BadPixels, find_bad
from ddgm_dist.views.statistics import ViewStatistics

__all__ = ["find_nonfinite", "refuse_lost_contrast"]

_STEPS = 64  # of float32 between the smallest and the largest value, at least
_BAND_PIXELS = 2**23


def refuse_lost_contrast(
    views: PreparedViews, statistics: Sequence[ViewStatistics], source: str
) -> None:
    """Refuse an offset beside which float32 cannot resolve the values.

    Raises
    ------
    InputError
        They span fewer than `_STEPS` steps of float32.
    """
    dtype = views.stack.dtype
    if dtype.itemsize <= (4 if dtype.kind == "f" else 2):
        return  # each value is one of float32
    known = [s for s in statistics if np.isfinite(s.low)]
    if not known:
        return
    low, high = min(s.low for s in known), max(s.high for s in known)
    step = float(np.spacing(np.float32(max(abs(low), abs(high)))))
    if max(abs(low), abs(high)) > 0 and high - low < _STEPS * step:
        raise InputError(
            "source",
            source,
            f"holds {dtype} between {low:.9g} and {high:.9g}, where float32 has "
            f"steps of {step:.2g}: next to nothing of the contrast is left",
            "subtract the offset in the file",
        )


def find_nonfinite(views: PreparedViews, source: str, options: IngestOptions) -> int:
    """Number of NaN and infinite pixels that would be stored.

    Raises
    ------
    InputError
        There are some, and ``impute_nonfinite`` is not set.
    """
    found, (tilts, height, width) = list[BadPixels](), views.shape
    band = max(1, _BAND_PIXELS // width)
    for tilt in range(tilts):
        for row in range(0, height, band):
            stop = min(row + band, height)
            block = views.read(Box((tilt, row, 0), (tilt + 1, stop, width)))
            found.append(find_bad((tilt, row, 0), block))
    bad = BadPixels.merge(found)
    if bad.count and not options.impute_nonfinite:
        raise InputError(
            "source",
            source,
            f"has {bad.describe()}",
            "give --impute-nonfinite to treat them as unmeasured",
        )
    return bad.count
