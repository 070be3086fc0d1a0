"""Counts behind a slab of tissue, for tests of levels and evidence."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box
from ddgm_dist.simulation.phantom import TissuePhantom
from ddgm_dist.simulation.projector import project

ANGLES = np.arange(-60.0, 61.0, 3.0)
# Rank of each view, taken from the middle outwards.
DOSE_SYMMETRIC = np.argsort(np.argsort(np.abs(ANGLES) + 0.1 * (ANGLES > 0)))


@cache
def tissue(seed: int = 0, inclined_deg: float = 0.0) -> NDArray[np.float64]:
    """Line integrals (tilt, row, column) of stained tissue, about 1 at zero tilt."""
    depth, rows, field = 16, 32, 96
    angles = ANGLES - inclined_deg
    steepest = np.radians(np.abs(angles).max())
    width = int(field / np.cos(steepest) + 2 * depth * np.tan(steepest)) + 4
    shape = (depth, rows, width)
    grey = TissuePhantom(shape, seed=seed).read(Box((0, 0, 0), shape))
    density = (255 - grey) / 125 / depth
    return project(density, [float(angle) for angle in angles], n_u=field).astype(np.float64)


def counts(
    integrals: NDArray[np.float64], level: float | NDArray[np.float64], seed: int = 0
) -> NDArray[np.float64]:
    """Poisson counts of an incident level, one number or one for each view."""
    beam = np.broadcast_to(np.asarray(level, dtype=float), (len(integrals),))
    expected = beam[:, None, None] * np.exp(-integrals)
    return np.random.default_rng(seed).poisson(expected).astype(np.float64)


def means(views: NDArray[np.float64]) -> list[float]:
    """Mean of each view."""
    return [float(view.mean()) for view in views]
