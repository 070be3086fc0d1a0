"""The mean of a slab's views against the tilt: ``log(mean) = log(I0) - t / cos(tilt)``.

The slope is the median over pairs of views and the level the median of the remainders (Theil 1950, Sen
1968), so that up to a quarter of the views may be faulty. A slab that is itself inclined, as
lamellae are by 5 to 15 degrees, has ``cos(tilt - offset)``.

The logarithm of a mean is not the mean of the logarithms. So t is smaller than the mean line
integral by half of the line integrals' variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddgm_dist.views.robust import robust_fit, robust_scale

__all__ = ["LEAST_SPAN", "LEAST_VIEWS", "CosineLaw", "fit_cosine_law", "path_length", "slow_part"]

Floats = NDArray[np.float64]

# How far 1 / cos must reach, and in how many views, to tell the level from the specimen.
LEAST_SPAN, LEAST_VIEWS = 0.3, 5
# Beyond this tilt, degrees, no slab lets a beam through that could be measured.
_STEEPEST = 80.0
# Inclinations that are tried, degrees; one counts if it leaves so small a share of the scatter.
_INCLINED, _BETTER = 15.0, 0.6
# Views on which inclinations are compared at most.
_COMPARED = 121
# Degrees of the polynomial that follows what the specimen does to the mean.
_MOST_DEGREE, _VIEWS_A_DEGREE = 5, 6


@dataclass(frozen=True)
class CosineLaw:
    """A fitted law.

    Attributes
    ----------
    log_level
        log(I0).
    thickness
        t, the slab's line integral at normal incidence; negative if the means rise with the tilt.
    offset_deg
        Tilt at which the beam is normal to the slab, degrees; 0 unless clearly another.
    residuals
        log(mean) minus the law for each view; NaN where it is not known.
    scatter
        Robust standard deviation of the residuals.
    error
        Standard deviation of ``log_level``, from that.
    """

    log_level: float
    thickness: float
    offset_deg: float
    residuals: Floats
    scatter: float
    error: float


def path_length(angles_deg: ArrayLike, offset_deg: float = 0.0) -> Floats:
    """Path through a slab of unit thickness; NaN for tilts beyond 80 degrees."""
    tilt = np.asarray(angles_deg, dtype=np.float64) - offset_deg
    steep = np.abs(tilt) > _STEEPEST
    return np.where(steep, np.nan, 1 / np.cos(np.radians(np.where(steep, 0, tilt))))


def _line(values: Floats, path: Floats) -> tuple[float, float]:
    """Median slope over pairs of views that are far apart, and the median remainder."""
    i, j = np.triu_indices(len(values), 1)
    apart = np.abs(path[i] - path[j]) > np.ptp(path) / 3
    slope = float(np.median((values[i] - values[j])[apart] / (path[i] - path[j])[apart]))
    return slope, float(np.median(values - slope * path))


def fit_cosine_law(log_means: ArrayLike, angles_deg: ArrayLike) -> CosineLaw | None:
    """Fit the law; None where the views are too few or their tilts too alike.

    Parameters
    ----------
    log_means
        Logarithm of each view's mean above the dark counts, divided by its exposure; NaN if unknown.
    angles_deg
        Tilts, degrees.
    """
    values = np.asarray(log_means, dtype=np.float64)
    angles = np.asarray(angles_deg, dtype=np.float64)
    path = path_length(angles)
    seen = np.isfinite(values) & np.isfinite(path)
    if seen.sum() < LEAST_VIEWS or np.ptp(path[seen]) < LEAST_SPAN:
        return None
    offset = _inclination(values[seen], angles[seen])
    path = path_length(angles, offset)
    seen = np.isfinite(values) & np.isfinite(path)
    some = np.flatnonzero(seen)
    some = some[:: max(1, len(some) // 1000)]
    slope, level = _line(values[some], path[some])
    residuals = values - (level + slope * path)
    scatter = robust_scale(residuals)
    spread = float(np.square(path[seen] - path[seen].mean()).sum())
    error = scatter * math.sqrt(1 / seen.sum() + float(path[seen].mean()) ** 2 / spread)
    return CosineLaw(level, -slope, offset, residuals, scatter, error)


def _inclination(values: Floats, angles: Floats) -> float:
    """Inclination of the slab, degrees; 0 unless another one explains the means far better."""
    some = np.unique(np.linspace(0, len(values) - 1, _COMPARED).astype(int))
    values, angles = values[some], angles[some]

    def scatter(offset: float) -> float:
        path = path_length(angles, offset)
        seen = np.isfinite(path)
        if seen.sum() < max(LEAST_VIEWS, 0.7 * len(path)) or np.ptp(path[seen]) < LEAST_SPAN:
            return math.inf
        slope, level = _line(values[seen], path[seen])
        # Where the means rise with the tilt there is no absorbing slab that could be inclined.
        return robust_scale(values[seen] - level - slope * path[seen]) if slope < 0 else math.inf

    tried = np.arange(-_INCLINED, _INCLINED + 0.5)
    best = float(tried[int(np.argmin([scatter(float(offset)) for offset in tried]))])
    fine = best + np.arange(-0.75, 1.0, 0.25)
    best = float(fine[int(np.argmin([scatter(float(offset)) for offset in fine]))])
    # Differences in the sixth digit are no evidence.
    return best if scatter(best) < _BETTER * scatter(0.0) - 1e-6 else 0.0


def slow_part(residuals: Floats, angles: Floats) -> Floats:
    """The part of the residuals that changes slowly with the tilt.

    It is the specimen's, whose density is not the same everywhere: a beam does not know the angle. A
    polynomial has one degree for each `_VIEWS_A_DEGREE` views, and five at most.
    """
    known = np.isfinite(residuals)
    degree = min(_MOST_DEGREE, int(known.sum()) // _VIEWS_A_DEGREE)
    if degree < 1:
        return np.zeros_like(residuals)
    at = angles / max(1.0, float(np.abs(angles).max()))
    basis = np.stack([at**k for k in range(degree + 1)], axis=1)
    found, _ = robust_fit(basis[known], residuals[known])
    return np.asarray(basis @ found, dtype=np.float64)
