"""Detect a constant in every pixel, estimated from parts of the series."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from ddgm_dist.core.geometry import Boundary, Geometry
from ddgm_dist.pixels.background import (
    Background,
    edge_level,
    fit_background,
    is_flat,
    vacuum_beside,
)
from ddgm_dist.pixels.omitted_lines import view_means

__all__ = ["LevelCheck"]

# An uneven slab's means grow with the tilt by at least this share of the mean at zero tilt. A constant
# in it counts from this share on (without any, shares of up to 0.09 were seen).
_GROWS, _SHARE_OF_UNEVEN = 0.1, 0.3
# Views whose means are so small against their pixels' deviation had their means removed, as some
# programs do: what is left of them, in the part of the field that all views show, is no constant.
_ZERO_MEAN = 0.25


class LevelCheck:
    """Collects parts of a series, and says whether a constant is in all of them.

    Parameters
    ----------
    boundary
        An extended specimen is judged by the means of its views, an isolated one by the ends of its
        rows. None if it is unknown: then one as bright at its ends as in the middle is extended.
        A slab that ends within the field is judged by the vacuum beside it, which tells more.
    """

    def __init__(self, boundary: Boundary | None) -> None:
        self.boundary = boundary
        self._means = list[list[float]]()
        self._flat = list[bool]()
        self._edges = list[Background]()
        self._vacua = list[Background]()
        self._levels, self._spreads = list[list[float]](), list[float]()
        self._angles: tuple[float, ...] = ()

    def add(self, projections: Tensor, geometry: Geometry, good: Tensor | None = None) -> None:
        """A part ``(tilt, rows, columns)`` and the geometry that it would have alone.

        Pixels that are not ``good`` must have been replaced by something plausible.
        """
        self._angles = geometry.angles
        self._means.append(view_means(projections, geometry, good).tolist())
        self._flat.append(is_flat(projections.numpy()))
        self._edges.append(edge_level(projections.numpy()))
        measured = None if good is None else good.numpy()
        vacuum = vacuum_beside(projections.numpy(), geometry.angles, measured)
        if vacuum is not None:
            self._vacua.append(vacuum)
        self._levels.append(projections.double().mean(dim=(1, 2)).tolist())
        self._spreads.append(float(projections.double().var(dim=(1, 2), correction=0).mean()))

    def constant(self) -> tuple[float, float] | None:
        """The constant and the specimen's own mean at zero tilt, if there is a constant."""
        found = self._fit()
        return (found.constant, found.specimen) if found and found.significant else None

    def _fit(self) -> Background | None:
        if not self._means:
            return None
        flat = 2 * sum(self._flat) > len(self._flat)
        slab = None if self.boundary == "vacuum" else self._slab(flat=flat)
        if slab is not None and self._vacua:
            # The fewer rays stay within the field, the less vacuum is in a view's mean: it grows more
            # than 1 / cos does, as if a constant were missing.
            return min(self._vacua, key=lambda vacuum: vacuum.error)
        if flat or slab is not None:
            return slab
        if self.boundary == "extended":
            return None  # not as the slab that it is said to be: its means say nothing
        level, specimen, error = (
            float(np.median([getattr(e, name) for e in self._edges]))
            for name in ("constant", "specimen", "error")
        )
        # A specimen that stands in a vacuum is brighter than its rows' ends.
        return Background(level, specimen, error, self._edges[0].share) if specimen > 0 else None

    def _slab(self, *, flat: bool) -> Background | None:
        """Fit the means of the views, if they are those of a slab."""
        levels = np.mean(self._levels, axis=0)
        if np.square(levels).mean() < _ZERO_MEAN**2 * np.mean(self._spreads):
            return None
        means = np.array(self._means)
        seen = np.isfinite(means).any(axis=0)
        middle = np.full(means.shape[1], np.nan)
        middle[seen] = np.nanmedian(means[:, seen], axis=0)
        found = fit_background(middle.tolist(), self._angles)
        if found is None or flat:
            return found
        # Brighter or darker at its ends, it may still grow with the tilt as slabs do.
        grows = found.specimen > _GROWS * abs(found.constant + found.specimen)
        return replace(found, share=_SHARE_OF_UNEVEN) if grows else None
