"""Inclination of a slab, from the mean of its views: it is least where the slab is across the beam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["OffsetEstimate", "estimate_offset"]

# Offsets that are tried, degrees.
_TRIED = np.arange(-25.0, 25.01, 0.1)
_LEAST_VIEWS, _LEAST_SPAN = 7, 0.2
# An offset must explain the means so many times better than none.
_BETTER = 2.0


@dataclass(frozen=True)
class OffsetEstimate:
    """Offset of the tilt angles.

    Attributes
    ----------
    degrees
        To be added to all angles.
    scatter
        Robust standard deviation of the means about the law, as a share of them.
    without
        The same without an offset.
    """

    degrees: float
    scatter: float
    without: float

    @property
    def is_clear(self) -> bool:
        """True if the offset explains the means much better than none does."""
        return self.scatter * _BETTER < self.without and self.without > 0.005


def estimate_offset(means: Sequence[float], angles_deg: Sequence[float]) -> OffsetEstimate | None:
    """Estimate the offset of the angles of a slab, whose mean is ``a / cos(angle + offset)``.

    Parameters
    ----------
    means
        Mean of each view's line integrals.
    angles_deg
        Tilt angle of each view, degrees.

    Returns
    -------
    OffsetEstimate
        None where the means are not positive, or do not rise with the tilt as those of a slab.
    """
    mean, angles = np.asarray(means, dtype=np.float64), np.asarray(angles_deg, dtype=np.float64)
    used = np.isfinite(mean) & (mean > 0)
    if used.sum() < _LEAST_VIEWS or used.mean() < 0.8:
        return None
    mean, angles = np.log(mean[used]), angles[used]
    if np.ptp(np.log(np.cos(np.deg2rad(np.clip(angles, -88, 88))))) < _LEAST_SPAN:
        return None
    scatters = np.array([_scatter(mean, angles + offset) for offset in _TRIED])
    best = int(np.argmin(scatters))
    if best in (0, len(_TRIED) - 1):
        return None
    # Constant means are those of a specimen in a vacuum, which say nothing of its inclination.
    flat = 1.4826 * float(np.median(np.abs(mean - np.median(mean))))
    if flat < 2 * scatters[best]:
        return None
    return OffsetEstimate(float(_TRIED[best]), float(scatters[best]), _scatter(mean, angles))


def _scatter(log_mean: NDArray[np.float64], angles: NDArray[np.float64]) -> float:
    cosine = np.cos(np.deg2rad(angles))
    if cosine.min() < 0.02:
        return float("inf")
    rest = log_mean + np.log(cosine)
    return 1.4826 * float(np.median(np.abs(rest - np.median(rest))))
