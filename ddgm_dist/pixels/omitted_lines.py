"""Lines (a row of one tilt) of a tilt series that measure the specimen.

Lines of which less than half is good are left out. So are two more kinds, which are faults of one view
or of the detector and would spoil every estimate:

- Constant lines of a slab whose value is rare in the view's other lines, or without other lines in the
  view. (If the value is common, it is vacuum.)
- Lines whose variance is more than 16 times that of nine tenths of the lines. They are kept if the same
  row varies alike in a fifth of the other views: what is seen in many views is specimen. Only a pattern
  that stays at its columns, away from the tilt axis, is a detector's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddgm_dist.core.geometry import Geometry

__all__ = ["NARROWEST", "Lines", "inner_columns", "measured_lines", "omitted_lines", "view_means"]

# The fewest columns that a spectrum is estimated from.
NARROWEST = 16
# A line is suspected if its variance exceeds this many times that quantile of all lines. It is kept if
# this share of the other views has as much in its row. Most lines of an isolated specimen may be vacuum.
_EXCESS, _MOST_LINES, _ALIKE = 16.0, {"extended": 0.9, "vacuum": 0.99}, 0.2
# A value that so many pixels of the view's other lines have is vacuum; equal but for rounding.
_COMMON, _ROUNDING = 0.01, 1e-6
# Columns that a specimen would move by, and how much of a pattern may differ if it has not.
_TRAVEL, _SAME = 2.0, 0.01


@dataclass(frozen=True)
class Lines:
    """Measured part of a tilt: its rows (all of them when None), and columns first to stop."""

    tilt: int
    rows: Tensor | None
    first: int
    stop: int

    def within(self, first: int, stop: int) -> tuple[int, int]:
        """The columns that are among those given; these where none are."""
        a, b = max(first, self.first), min(stop, self.stop)
        return (a, b) if a < b else (first, stop)


def measured_lines(
    projections: Tensor, geometry: Geometry, good: Tensor | None = None
) -> list[Lines]:
    """Lines that measure something, tilt by tilt; all of all tilts where none does.

    Parameters
    ----------
    projections
        Float ``(tilt, rows, field)``, finite.
    geometry
        Geometry of the tilt series.
    good
        Bool, as the projections; all were measured when None.
    """
    spans, seen, omitted = _judged(projections, geometry, good)
    kept = seen & ~omitted
    if not bool(kept.any()):
        kept[:] = True
    return [
        Lines(t, None if bool(lines.all()) else torch.nonzero(lines).flatten(), *spans[t])
        for t, lines in enumerate(kept)
        if bool(lines.any())
    ]


def omitted_lines(
    projections: Tensor, geometry: Geometry, good: Tensor | None = None
) -> list[tuple[int, int]]:
    """Tilt and row of lines that `measured_lines` leaves out although they are good."""
    _, _, omitted = _judged(projections, geometry, good)
    return [(int(t), int(y)) for t, y in torch.nonzero(omitted)]


def inner_columns(geometry: Geometry) -> list[tuple[int, int]]:
    """Detector columns, per tilt, whose rays stay within the field: what lies outside is unknown.

    All columns for an isolated specimen, and for a tilt so steep that none stays within.
    """
    found = []
    for tilt, angle in enumerate(geometry.angles):
        spread = geometry.thickness / 2 * abs(math.tan(angle))
        half = (geometry.field / 2 - spread) * math.cos(angle)
        centre = geometry.field / 2 + geometry.shift(tilt)[1]
        first, stop = max(0, math.ceil(centre - half)), min(geometry.field, int(centre + half))
        usable = geometry.boundary == "extended" and stop - first >= NARROWEST
        found.append((first, stop) if usable else (0, geometry.field))
    return found


def _judged(
    projections: Tensor, geometry: Geometry, good: Tensor | None
) -> tuple[list[tuple[int, int]], Tensor, Tensor]:
    """Columns of each tilt; which lines are good; which of those are left out, ``(tilt, rows)``."""
    tilts, rows, field = projections.shape
    spans = [(0, field)] * tilts
    kept = torch.ones(tilts, rows, dtype=torch.bool)
    if good is not None:
        for tilt, seen in enumerate(good):
            columns = torch.nonzero(2 * seen.sum(dim=0) >= max(1, int(seen.any(dim=1).sum())))
            if len(columns):
                spans[tilt] = (int(columns[0]), int(columns[-1]) + 1)
            a, b = spans[tilt]
            kept[tilt] = 2 * seen[:, a:b].sum(dim=1) >= b - a
    varies = torch.empty(tilts, rows, dtype=torch.float64)
    columns_of = [
        Lines(tilt, None, *spans[tilt]).within(*inner)
        for tilt, inner in enumerate(inner_columns(geometry))
    ]
    for tilt, (first, stop) in enumerate(columns_of):
        part = projections[tilt, :, first:stop].double()
        varies[tilt] = (part - part.mean(dim=1, keepdim=True)).square().mean(dim=1)
    varying = kept & (varies > 0)
    omitted = torch.zeros_like(kept)
    if not bool(varying.any()):
        return spans, kept, omitted
    if geometry.boundary == "extended":
        for tilt, (first, stop) in enumerate(columns_of):
            constant = torch.nonzero(kept[tilt] & ~varying[tilt]).flatten()
            others = projections[tilt, varying[tilt], first:stop]
            for row in constant.tolist():
                omitted[tilt, row] = not _is_common(float(projections[tilt, row, first]), others)
    usual = float(varies[varying].quantile(_MOST_LINES[geometry.boundary]))
    wild = varying & (varies > _EXCESS * usual)
    fixed: dict[int, bool] = {}
    for tilt, row in torch.nonzero(wild).tolist():
        alike, known = _alike(varies, kept, geometry, tilt, row)
        if known and len(alike) < max(1, math.ceil(_ALIKE * known)):
            omitted[tilt, row] = True
            continue
        if row not in fixed:
            views = torch.nonzero(wild[:, row]).flatten().tolist()
            fixed[row] = _is_fixed(projections, geometry, columns_of, row, views)
        omitted[tilt, row] = fixed[row]
    return spans, kept, omitted


def _is_common(value: float, others: Tensor) -> bool:
    """Return whether a constant line's value is also in lines that vary."""
    if others.numel() == 0:
        return False
    near = (others - value).abs() <= _ROUNDING * float(others.abs().max())
    return float(near.double().mean()) >= _COMMON


def _alike(
    varies: Tensor, kept: Tensor, geometry: Geometry, tilt: int, row: int
) -> tuple[list[int], int]:
    """Other views that vary as much in the row of the specimen that a line shows; how many show it."""
    alike, known = [], 0
    rows = varies.shape[1]
    for other in range(len(varies)):
        near = row + round(geometry.shift(other)[0] - geometry.shift(tilt)[0])
        lines = slice(max(0, near - 1), max(0, min(rows, near + 2)))
        seen = varies[other, lines][kept[other, lines]]
        if other == tilt or not len(seen):
            continue
        known += 1
        if float(seen.max()) * _EXCESS >= float(varies[tilt, row]):
            alike.append(other)
    return alike, known


def _is_fixed(
    projections: Tensor,
    geometry: Geometry,
    columns: list[tuple[int, int]],
    row: int,
    views: list[int],
) -> bool:
    """Return whether views of different angles show one pattern at the same columns: the detector's.

    Only columns are asked from which a specimen would have moved.
    """
    first, stop = max(columns[v][0] for v in views), min(columns[v][1] for v in views)
    cosines = [math.cos(geometry.angles[v]) for v in views]
    if stop - first < NARROWEST or len(views) < 2:
        return False
    place = torch.arange(first, stop, dtype=torch.float64) - (geometry.field - 1) / 2
    far = place.abs() * (max(cosines) - min(cosines)) >= _TRAVEL
    low, high = (
        projections[views[k], row, first:stop].double()
        for k in (cosines.index(min(cosines)), cosines.index(max(cosines)))
    )
    low, high = low - low.mean(), high - high.mean()
    energy = low[far].square().sum()
    return bool(
        (energy >= 0.5 * low.square().sum())
        & (energy > 0)
        & ((high - low)[far].square().sum() <= _SAME * energy)
    )


def view_means(projections: Tensor, geometry: Geometry, good: Tensor | None = None) -> Tensor:
    """Mean of each tilt over the rays that stay within the field, float64 ``(tilt,)``.

    NaN for a tilt that measures nothing; parameters as of
    :func:`ddgm_dist.pixels.intensity_estimate.estimate_intensity`.
    """
    means = torch.full((geometry.tilts,), math.nan, dtype=torch.float64)
    inner = inner_columns(geometry)
    for lines in measured_lines(projections, geometry, good):
        first, stop = lines.within(*inner[lines.tilt])
        view = projections[lines.tilt, :, first:stop]
        means[lines.tilt] = (view if lines.rows is None else view[lines.rows]).double().mean()
    return means
