"""Views whose vacuum is brighter or darker than that of the others, and is well measured all the same.

A change of the dose changes the vacuum and the specimen alike. So the transmissions of such a view, over
its own vacuum, are those of the views beside it. Where something hides the vacuum, or no beam came, they
are others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["has_own_vacuum", "stands_apart"]

Floats = NDArray[np.float64]

# Views on either side in tilt that a view is compared with.
_BESIDE = 3
# Probabilities of the quantiles that are compared: beyond them noise counts most.
_LOW, _HIGH = 0.1, 0.9
# Transmissions may differ by this share of what the specimen takes away, and by so many of the usual
# differences between neighbours.
_SHARE, _USUAL = 0.25, 2.0
# Two parts of a view explain so much of its variance that they are no single one (of a normal
# distribution they explain 0.64, of an even one 0.75), and the brighter one has so little texture.
_TWO, _SMOOTH = 0.8, 0.2
# What is above the level is noise, which may grow so much from the least tilts to the steepest ones.
_GROWS = 1.05


def has_own_vacuum(
    quantiles: ArrayLike,
    levels: ArrayLike,
    probabilities: ArrayLike,
    angles_deg: ArrayLike,
    apart: ArrayLike,
) -> NDArray[np.bool_]:
    """Return which of the views that stand out show the same transmissions as those beside them.

    Parameters
    ----------
    quantiles
        Of each view above the dark counts, shape (views, probabilities).
    levels
        Brightest level of each view; NaN or at most 0 where there is none.
    probabilities
        Of the quantiles, rising.
    angles_deg
        Tilts, degrees.
    apart
        True for views whose level is not that of the others.

    Returns
    -------
    NDArray
        One flag for each view; false for views that do not stand out, and where too few do not.
    """
    at, level = (np.asarray(v, dtype=np.float64) for v in (probabilities, levels))
    angles, out = np.asarray(angles_deg, dtype=np.float64), np.asarray(apart, dtype=bool)
    some = (at >= _LOW - 1e-9) & (at <= _HIGH + 1e-9)
    values = np.asarray(quantiles, dtype=np.float64)[:, some]
    known = np.isfinite(level) & (level > 0) & np.isfinite(values).all(axis=1)
    shares = values / np.where(known, level, 1.0)[:, None]
    usual = np.flatnonzero(known & ~out)
    found = np.zeros(level.shape, dtype=bool)
    if len(usual) <= 2 * _BESIDE:
        return found

    def beside(view: np.intp) -> Floats:
        """Transmissions of the views beside one."""
        others = usual[usual != view]
        near = others[np.argsort(np.abs(angles[others] - angles[view]), kind="stable")]
        return np.asarray(np.median(shares[near[: 2 * _BESIDE]], axis=0), dtype=np.float64)

    ordinary = float(np.median([_rms(shares[view] - beside(view)) for view in usual]))
    for view in np.flatnonzero(known & out):
        expected = beside(view)
        allowed = _SHARE * _rms(1 - expected) + _USUAL * ordinary
        found[view] = _rms(shares[view] - expected) <= allowed
    return found


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.square(values).mean()))


def stands_apart(quantiles: ArrayLike, levels: ArrayLike, angles_deg: ArrayLike) -> bool:
    """Return whether the brightest level of most views is that of a smooth part beside a darker one.

    A view is cut in two where the parts differ most (Otsu 1979). A slab that fills the field is no two
    parts. The thin part of a specimen has a texture, which grows with the tilt as its path does, and
    the noise of a vacuum does not. A thin part without a texture looks like a vacuum.

    Parameters
    ----------
    quantiles
        Of each view above the dark counts at evenly spaced probabilities, shape (views, probabilities).
    levels
        Brightest level of each view; NaN or at most 0 where there is none.
    angles_deg
        Tilts, degrees.
    """
    values, level = np.asarray(quantiles, dtype=np.float64), np.asarray(levels, dtype=np.float64)
    tilts = np.abs(np.asarray(angles_deg, dtype=np.float64))
    known = np.isfinite(values).all(axis=1) & (values[:, 0] > 0) & (level > 0)
    values, level, tilts = np.log(values[known]), np.log(level[known]), tilts[known]
    if 2 * sum(map(_is_of_two, values, level)) <= len(level):
        return False
    above = values[:, -2:].mean(axis=1) - level
    least, steep = np.quantile(tilts, [1 / 3, 2 / 3])
    limit = _GROWS * np.median(above[tilts <= least])
    return bool(np.median(above[tilts >= steep]) <= limit)


def _is_of_two(values: Floats, level: float) -> bool:
    """Return whether logarithms of one view are two parts, of which the brighter has the level."""
    count = len(values)
    cuts, sums = np.arange(1, count), np.cumsum(values)
    low, high = sums[:-1] / cuts, (sums[-1] - sums[:-1]) / (count - cuts)
    between = cuts * (count - cuts) / count**2 * np.square(high - low)
    best = int(np.argmax(between))
    smooth = float(values[best + 1 :].std()) <= _SMOOTH * float(high[best] - low[best])
    two = between[best] >= _TWO * values.var() > 0
    return bool(two and smooth and level >= values[best + 1])
