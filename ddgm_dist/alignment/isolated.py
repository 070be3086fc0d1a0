"""A specimen that is alone in a vacuum: its centre of mass shows how each view is shifted along u."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.alignment.correlation import despike
from ddgm_dist.views.robust import robust_scale

__all__ = ["centres_of_mass"]

Floats = NDArray[np.float64]

# Share of the columns at either side that must be empty, and the level there against the highest.
_EDGE, _EMPTY, _EMPTIEST = 0.06, 0.08, 0.2
# The mass must stay the same from view to view, to this share.
_SAME = 0.1


def centres_of_mass(images: Sequence[Floats]) -> Floats | None:
    """Centre of mass of each view along u, from the middle, pixels; None if the specimen is not alone.

    It moves as ``c + x cos + z sin``, since the line integrals of a view add up to the mass.

    Parameters
    ----------
    images
        Views ``(rows, columns)``; NaN where not measured.
    """
    lines = np.array([_line(image) for image in images])
    wide = max(2, round(_EDGE * lines.shape[1]))
    if not np.isfinite(lines).all() or lines.shape[1] < 4 * wide:
        return None
    sides = np.stack([lines[:, :wide].mean(axis=1), lines[:, -wide:].mean(axis=1)])
    level, top = sides.min(axis=0), lines.max(axis=1)
    if not (top > level).all():
        return None
    higher = (sides.max(axis=0) - np.minimum(level, 0)) / (top - np.minimum(level, 0))
    if np.median(higher) > _EMPTY or np.quantile(higher, 0.9) > _EMPTIEST:
        return None
    # What is left of the background may differ from side to side.
    slope = np.linspace(0, 1, lines.shape[1])
    above = lines - (sides[0, :, None] * (1 - slope) + sides[1, :, None] * slope)
    mass = above.sum(axis=1)
    if not (mass > 0).all() or robust_scale(np.log(mass)) > _SAME:
        return None
    at = np.arange(lines.shape[1]) - (lines.shape[1] - 1) / 2
    return np.asarray((above * at).sum(axis=1) / mass)


def _line(image: Floats) -> Floats:
    """Mean over the rows of each column; NaN where nothing was measured."""
    known = np.isfinite(image)
    if not known.any():
        return np.full(image.shape[1], np.nan)
    count = known.sum(axis=0)
    filled = np.where(known, despike(image)[0], 0.0)
    return np.asarray(np.where(count > 0, filled.sum(axis=0) / np.maximum(count, 1), np.nan))
