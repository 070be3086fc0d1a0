"""Evidence that views hold counts of a beam that a slab absorbs: their mean falls with 1 / cos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.views.cosine_law import LEAST_SPAN, path_length
from ddgm_dist.views.robust import robust_fit, robust_scale, weighted_fit

__all__ = ["Evidence", "looks_like_counts"]

Floats = NDArray[np.float64]

_LEAST_VIEWS = 7
# Least fall of the mean over the tilts, least share of its variation that the path explains beyond
# drifts, and in how many standard errors.
_FALL, _EXPLAINED, _ERRORS = 0.08, 0.7, 6.0
# More has to be explained where what remains wanders from view to view, as a beam does.
_WANDERING = 0.2
# A straight line against the tilt's magnitude must not leave less than this share of the scatter.
_STRAIGHTER = 0.7


@dataclass(frozen=True)
class Evidence:
    """Fall of the views' mean with the tilt.

    Attributes
    ----------
    thickness
        t of ``log(mean) = log(I0) - t / cos(tilt)``.
    fall
        Share of the mean that is lost from the least to the greatest tilt.
    explained
        Share of the variation beyond drifts that this law explains.
    errors
        The thickness in its standard errors.
    """

    thickness: float
    fall: float
    explained: float
    errors: float


def looks_like_counts(
    means: Sequence[float],
    angles_deg: Sequence[float],
    *,
    order: Sequence[int] | None = None,
    exposures: Sequence[float] | None = None,
) -> Evidence | None:
    """Return the evidence that views hold counts; None if there is none.

    A drift that is linear in the tilt or in the order of acquisition explains nothing. Line integrals of
    a slab rise with the tilt, and the mass of a specimen in vacuum stays as it is.

    Parameters
    ----------
    means
        Mean of each view above the dark counts; NaN where it has none.
    angles_deg
        Tilts, degrees.
    order
        Rank of each view in the order of acquisition, where it is known.
    exposures
        Exposure of each view in any unit, where it is known.
    """
    mean = np.asarray(means, dtype=np.float64)
    angles = np.asarray(angles_deg, dtype=np.float64)
    path = path_length(angles)
    used = np.isfinite(mean) & np.isfinite(path)
    if used.sum() < _LEAST_VIEWS or (mean[used] > 0).mean() < 0.8:
        return None
    used &= mean > 0
    path, angles = path[used], angles[used]
    if used.sum() < _LEAST_VIEWS or np.ptp(path) < LEAST_SPAN:
        return None
    values = np.log(mean[used])
    if exposures is not None:
        values = values - np.log(np.asarray(exposures, dtype=np.float64)[used])
    drifts = [np.ones_like(path), angles / 60]
    if order is not None:
        rank = np.asarray(order, dtype=np.float64)[used]
        drifts.append((rank - rank.mean()) / max(1.0, float(np.ptp(rank))))
    basis = np.stack([path, *drifts], axis=1)
    found, weights = robust_fit(basis, values)
    residual = values - basis @ found
    # What the drifts leave of the path: the part that only the law can explain.
    alone = path - basis[:, 1:] @ weighted_fit(basis[:, 1:], path, weights)
    power = float((weights * alone**2).sum())
    noise = float((weights * residual**2).sum())
    freedom = max(1.0, float(weights.sum()) - basis.shape[1])
    thickness = -float(found[0])
    if thickness <= 0 or power <= 1e-9 * float((weights * path**2).sum()):
        return None
    signal = thickness**2 * power
    explained = signal / (signal + noise)
    errors = thickness * math.sqrt(power / max(noise / freedom, 1e-18))
    fall = -math.expm1(-thickness * float(np.ptp(path)))
    least = _EXPLAINED + _WANDERING * _persistence(residual[np.argsort(angles)])
    if fall < _FALL or explained < least or errors < _ERRORS:
        return None
    if _is_straight(values, angles, drifts, residual):
        return None
    return Evidence(thickness, fall, explained, errors)


def _persistence(residual: Floats) -> float:
    """Correlation of neighbours' residuals, at least 0; faulty views are left out."""
    scale = robust_scale(residual)
    kept = residual[np.abs(residual) <= 5 * scale]
    power = float(np.square(kept).sum())
    return max(0.0, float((kept[1:] * kept[:-1]).sum()) / power) if power > 0 else 0.0


def _is_straight(values: Floats, angles: Floats, drifts: list[Floats], residual: Floats) -> bool:
    """True if a line against the tilt's magnitude is clearly better than the law.

    That is how a beam that fades looks where the tilts were taken from the middle outwards.
    """
    basis = np.stack([np.abs(angles) / 60, *drifts], axis=1)
    found, _ = robust_fit(basis, values)
    return robust_scale(values - basis @ found) < _STRAIGHTER * robust_scale(residual)
