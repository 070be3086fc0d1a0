"""Fits and scales that faulty views do not move."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["robust_fit", "robust_scale", "weighted_fit"]

Floats = NDArray[np.float64]

_ITERATIONS = 30


def robust_scale(values: Floats) -> float:
    """Standard deviation from the median absolute deviation of the values that are finite."""
    known = values[np.isfinite(values)]
    if known.size == 0:
        return 0.0
    return float(np.median(np.abs(known - np.median(known)))) / 0.6744897501960817


def weighted_fit(basis: Floats, values: Floats, weights: Floats) -> Floats:
    """Coefficients of a weighted least-squares fit; ``basis`` is (values, coefficients)."""
    root = np.sqrt(weights)
    found = np.linalg.lstsq(basis * root[:, None], values * root, rcond=None)[0]
    return np.asarray(found, dtype=np.float64)


def robust_fit(basis: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Coefficients of a fit that faulty views do not move, and the views' weights.

    Least absolute deviations first, then Tukey's biweight (Beaton and Tukey 1974).
    """
    weights = np.ones(len(values))
    tiny = 1e-6 * max(1e-6, float(np.abs(values - np.median(values)).max()))
    found = weighted_fit(basis, values, weights)
    for _ in range(_ITERATIONS):
        weights = 1 / np.maximum(np.abs(values - basis @ found), tiny)
        found = weighted_fit(basis, values, weights / weights.max())
    for _ in range(_ITERATIONS):
        residual = values - basis @ found
        reach = 4.685 * max(robust_scale(residual), tiny)
        weights = np.square(np.maximum(0, 1 - np.square(residual / reach)))
        if np.count_nonzero(weights) <= basis.shape[1]:
            return found, np.ones(len(values))
        found = weighted_fit(basis, values, weights)
    return found, weights
