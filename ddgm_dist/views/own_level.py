"""Views whose vacuum is brighter or darker than that of the others, and is well measured all the same.

A change of the dose changes the vacuum and the specimen alike. So the transmissions of such a view, over
its own vacuum, are those of the views beside it. Where something hides the vacuum, or no beam came, they
are others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["has_own_vacuum"]

Floats = NDArray[np.float64]

# Views on either side in tilt that a view is compared with.
_BESIDE = 3
# Probabilities of the quantiles that are compared: beyond them noise counts most.
_LOW, _HIGH = 0.1, 0.9
# Transmissions may differ by this share of what the specimen takes away, and by so many of the usual
# differences between neighbours.
_SHARE, _USUAL = 0.25, 2.0


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
