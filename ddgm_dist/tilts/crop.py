"""A small block of a tilt series in memory, with a geometry of its own.

A block of a wide slab has each tilt's columns around the position that shows the block's middle,
``X cos(theta) + dx`` from the detector's centre. A detector of so many columns would have recorded
them with the middle at its centre. The remainder of that position after rounding to whole columns is
the block's own shift. An isolated specimen is never cut along x: rays cross all of it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.operators.slab.stretch import DetectorPart
from ddgm_dist.pixels.screen import Screen
from ddgm_dist.tilts.reader import TiltSeries
from ddgm_dist.tilts.rows import read_rows

__all__ = ["Crop", "Place", "default_columns", "read_crop", "spread_places"]


@dataclass(frozen=True)
class Place:
    """Position and extent of a block.

    Attributes
    ----------
    row, rows
        First row, and number of rows.
    middle
        Centre of its columns, in columns of the field; a field of n columns has its own at (n - 1) / 2.
    columns
        Number of columns.
    """

    row: int
    rows: int
    middle: float
    columns: int


@dataclass(frozen=True)
class Crop:
    """A block of a tilt series.

    Attributes
    ----------
    geometry
        The block's own: its rows and columns are the field; shifts along y are done.
    projections
        Normalised, float32 ``(tilt, rows, columns)``.
    valid
        1 where a sample is trusted; None when all are.
    """

    geometry: Geometry
    projections: Tensor
    valid: Tensor | None

    def subset(self, tilts: Sequence[int]) -> Crop:
        """The block with some of its tilts."""
        g, chosen = self.geometry, list(tilts)
        geometry = replace(
            g,
            angles_deg=tuple(g.angles_deg[t] for t in chosen),
            shifts_px=tuple(g.shift(t) for t in chosen),
        )
        valid = None if self.valid is None else self.valid[chosen]
        return Crop(geometry, self.projections[chosen], valid)


def default_columns(geometry: Geometry) -> int:
    """Columns of a block: most of its rays stay within; the whole field where that is narrower."""
    if geometry.boundary == "vacuum":
        return geometry.field
    return min(geometry.field, max(256, 8 * geometry.reach))


def spread_places(geometry: Geometry, count: int, rows: int, seed: int) -> list[Place]:
    """Places spread over the field, none above another where there is room (a Latin hypercube).

    Parameters
    ----------
    geometry
        Geometry of the tilt series.
    count, rows
        Number of places; rows of each, cut to those there are.
    seed
        Seed of the choice within the strata.
    """
    draw = random.Random(seed)
    rows, columns = min(rows, geometry.rows), default_columns(geometry)
    column_strata = draw.sample(range(count), count)
    places = []
    for stratum, column_stratum in enumerate(column_strata):
        down, along = ((s + draw.random()) / count for s in (stratum, column_stratum))
        row = int(down * (geometry.rows - rows + 1))
        first = round(along * (geometry.field - columns))
        places.append(Place(row, rows, first + (columns - 1) / 2, columns))
    return places


def read_crop(
    series: TiltSeries,
    geometry: Geometry,
    intensity: Intensity,
    place: Place,
    screen: Screen | None = None,
) -> Crop:
    """Read a block; pixels that the screen masks are not trusted."""
    width, field = place.columns, geometry.field
    offset = place.middle - (field - 1) / 2
    first, shifts = [], []
    for tilt, angle in enumerate(geometry.angles):
        start = offset * math.cos(angle) + geometry.shift(tilt)[1] + (field - width) / 2
        whole = min(max(round(start), 0), field - width)
        first.append(whole)
        shifts.append((0.0, start - whole))
    projections, valid = read_rows(
        series,
        geometry,
        intensity,
        place.row,
        place.row + place.rows,
        DetectorPart(tuple(first), width),
        screen=screen,
    )
    own = replace(geometry, rows=place.rows, field=width, shifts_px=tuple(shifts))
    return Crop(own, projections, valid)
