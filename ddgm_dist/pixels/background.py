"""A constant that is in every pixel, estimated from the views' means.

Through a slab the mean of a view is ``a / cos(theta)``; a constant c is in all views alike. So
``mean_t = a / cos(theta_t) + c`` is fitted. The slope is the median over pairs of views (Theil 1950,
Sen 1968), and c is the median of the remainders. So a few faulty views do not matter.

A specimen that stands in a vacuum shows it at the ends of every row instead, where nothing is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Background", "edge_level", "fit_background", "is_flat", "vacuum_beside"]

# Ends of a specimen that stands in a vacuum are so many deviations of its lines darker.
_APART = 1.0
# How far 1 / cos(theta) must reach, and in how many views, to separate a constant from a specimen.
_SPAN, _LEAST_VIEWS = 0.3, 5
# A constant counts that is this share of a view's mean at zero tilt, and so many of its errors. Tissue
# that is unevenly thick or dense makes shares of up to 0.15; a vacuum shows what it is.
_SHARE, _SHARE_OF_VACUUM, _ERRORS = 0.25, 0.05, 6.0
# Ends of the rows are vacuum if they grow with the tilt by at most this share of what is beside them,
# and scatter by no more; or by so many errors. The specimen at the end of a slab grows as 1 / cos does.
_STEADY, _NOISE = 0.1, 2.0


@dataclass(frozen=True)
class Background:
    """A fitted constant, with its error.

    Attributes
    ----------
    constant
        c, in the unit of the pixels.
    specimen
        a: mean of the specimen's own projection at zero tilt.
    error
        Standard deviation of c, from how the views scatter.
    share
        Least share of the whole that a constant must be to count as no part of the specimen.
    """

    constant: float
    specimen: float
    error: float
    share: float = _SHARE

    @property
    def significant(self) -> bool:
        """True if the constant is too large for chance and for an uneven specimen."""
        whole = abs(self.constant + self.specimen)
        return abs(self.constant) > max(self.share * whole, _ERRORS * self.error)


def fit_background(means: Sequence[float], angles: Sequence[float]) -> Background | None:
    """Fit the constant; None where angles or views are too few.

    Parameters
    ----------
    means
        Mean of each view over the rays within the field; NaN where a view measures nothing.
    angles
        Tilt angles, radians.
    """
    values = np.asarray(means, dtype=np.float64)
    path = 1 / np.cos(np.asarray(angles, dtype=np.float64))
    seen = np.isfinite(values)
    values, path = values[seen], path[seen]
    if len(values) < _LEAST_VIEWS or np.ptp(path) < _SPAN:
        return None
    i, j = np.triu_indices(len(values), 1)
    apart = np.abs(path[i] - path[j]) > _SPAN / 3
    slope = float(np.median((values[i] - values[j])[apart] / (path[i] - path[j])[apart]))
    rest = values - slope * path
    constant = float(np.median(rest))
    scatter = float(np.median(np.abs(rest - constant))) / 0.6745
    spread = float(np.square(path - path.mean()).sum())
    error = scatter * math.sqrt(1 / len(path) + float(path.mean()) ** 2 / spread)
    return Background(constant, slope, error)


def is_flat(views: NDArray[np.float32]) -> bool:
    """Return whether views ``(tilt, rows, columns)`` are as bright at the ends as in the middle: a slab.

    The difference is held against how the lines vary, and lines that vary more count more.
    """
    tilts, rows, columns = views.shape
    edge, inner = max(1, columns // 8), columns // 4
    step, scale = np.empty((tilts, rows)), np.empty((tilts, rows))
    for tilt, view in enumerate(views):  # in float64 all of them would be large
        ends = np.concatenate([view[:, :edge], view[:, -edge:]], axis=1)
        middle = view[:, inner : columns - inner]
        step[tilt] = middle.mean(axis=1, dtype=np.float64) - ends.mean(axis=1, dtype=np.float64)
        scale[tilt] = view.std(axis=1, dtype=np.float64)
    varying = np.square(scale).sum(axis=1)
    apart = np.abs((step * scale).sum(axis=1)) / np.where(varying > 0, varying, np.inf)
    return bool(np.median(apart) < _APART)


def edge_level(views: NDArray[np.float32]) -> Background:
    """Level at the ends of the rows of an isolated specimen, where vacuum should be.

    Parameters
    ----------
    views
        ``(tilt, rows, columns)``.
    """
    edge = max(1, views.shape[2] // 50)
    ends = np.concatenate([views[..., :edge], views[..., -edge:]], axis=2)
    levels = np.median(ends, axis=(1, 2)).astype(np.float64)
    constant = float(np.median(levels))
    scatter = float(np.median(np.abs(levels - constant))) / 0.6745
    rest = float(views.mean(dtype=np.float64)) - constant
    return Background(constant, rest, scatter, _SHARE_OF_VACUUM)


def vacuum_beside(
    views: NDArray[np.float32], angles: Sequence[float], good: NDArray[np.bool_] | None = None
) -> Background | None:
    """Level of a vacuum that all views show at one end of their rows at least; None if none does.

    Where both ends do, it is the level of the steadier one.

    Parameters
    ----------
    views
        ``(tilt, rows, columns)``.
    angles
        Tilt angles, radians.
    good
        Which pixels are measured; all when None. The ends are those of what is measured.
    """
    columns = views.shape[2]
    edge, inner = max(1, columns // 50), columns // 4
    seen = np.isfinite(views) if good is None else good & np.isfinite(views)
    part = slice(inner, columns - inner)
    # Means, as a narrow specimen covers less than half of it, and medians of counts take few values.
    middle, _ = _means(views[..., part], seen[..., part])
    found = list[Background]()
    for step in (1, -1):
        from_end = np.cumsum(seen[..., ::step], axis=2, dtype=np.int32)[..., ::step]
        ends, errors = _means(views, seen & (from_end <= edge))
        known = np.isfinite(middle) & np.isfinite(ends)
        law = fit_background(ends.tolist(), angles)
        if law is None or 2 * known.sum() < len(ends):
            continue
        specimen = float(np.median((middle - ends)[known]))
        level = float(np.median(ends[known]))
        scatter = float(np.median(np.abs(ends[known] - level))) / 0.6745
        if level != 0 and not np.median(errors[known]) > 0:
            continue  # filled, or dead: a vacuum that is measured has noise
        allowed = max(_STEADY * specimen, _NOISE * float(np.median(errors[known])))
        grows = abs(law.specimen) - _NOISE * law.error
        if specimen > 0 and grows <= _STEADY * specimen and scatter <= allowed:
            found.append(Background(level, specimen, scatter, _SHARE_OF_VACUUM))
    return min(found, key=lambda one: one.error, default=None)


def _means(
    views: NDArray[np.float32], chosen: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of the chosen pixels of each view, and its error; NaN where there is none."""
    means, errors = np.full(len(views), math.nan), np.full(len(views), math.nan)
    for k, (view, some) in enumerate(zip(views, chosen, strict=True)):
        values = view[some].astype(np.float64)
        if values.size:
            means[k], errors[k] = values.mean(), values.std() / math.sqrt(values.size)
    return means, errors
