"""Parts of a tilt series that its intensity is estimated from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.stretch import DetectorPart
from ddgm_dist.pixels.hot_pixels import HotThreshold
from ddgm_dist.pixels.screen import Screen
from ddgm_dist.tilts.reader import TiltSeries
from ddgm_dist.tilts.rows import read_screened, repair
from ddgm_dist.tilts.strips import Pixels

__all__ = ["Sample", "probe", "samples"]

# Rows that the intensity is estimated from: groups of neighbours, spread over the field.
SAMPLE_GROUPS, SAMPLE_ROWS = 8, 8
# Fields up to this width are sampled over all their columns, wider ones in a few places.
WHOLE_SAMPLE = 16384
SAMPLE_PLACES, SAMPLE_COLUMNS = 8, 4096
_SAMPLE_BYTES = 256 * 2**20
# What is read at a time to find a threshold.
_PROBED_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Sample:
    """A part of the series.

    Attributes
    ----------
    values
        ``(tilt, rows, columns)``, with something plausible in the place of what was not measured.
    good
        Bool ``(tilt, rows, columns)``: the measured ones; None when all were.
    geometry
        Geometry that the part would have alone.
    row
        First detector row.
    """

    values: Tensor
    good: Tensor | None
    geometry: Geometry
    row: int


def samples(
    series: TiltSeries, geometry: Geometry, screen: Screen | None = None
) -> Iterator[Sample]:
    """Parts of the tilt series, without what was not measured.

    Raises
    ------
    InputError
        No part has a measured pixel.
    """
    found = False
    whole = geometry.boundary == "vacuum"
    for rows in _sample_rows(series.shape, geometry.field if whole else SAMPLE_COLUMNS):
        for part, seen in _sample_columns(geometry):
            raw, good = read_screened(series, rows, part, screen)
            if not good.any():
                continue  # there are measured pixels elsewhere
            whole = bool(good.all())
            if not whole:
                typical = _typical(raw, good)
                for tilt in range(len(raw)):  # view by view, as samples are large
                    one = slice(tilt, tilt + 1)
                    raw[one] = repair(raw[one], good[one], typical[one])
            found = True
            measured = None if whole else torch.from_numpy(good)
            yield Sample(torch.from_numpy(raw), measured, seen, rows.start)
            del raw, good, measured
    if not found:
        raise InputError(
            "tilts",
            series.path,
            "holds no finite pixel where its intensity was to be estimated",
            "give mean, std and sigma_y",
        )


def probe(series: Pixels) -> HotThreshold:
    """Pixels of all views, as they are stored, from rows and columns spread over the series."""
    field = series.shape[2]
    columns = [slice(0, field)]
    if field > WHOLE_SAMPLE:
        width = min(field, SAMPLE_COLUMNS)
        starts = np.linspace(0, field - width, SAMPLE_PLACES).astype(int)
        columns = [slice(int(s), int(s) + width) for s in starts]
    places = [(y, u) for y in _sample_rows(series.shape, SAMPLE_COLUMNS) for u in columns]
    tilts = series.shape[0]
    found = HotThreshold(len(places), tilts)
    for y, u in places:
        size = 4 * (y.stop - y.start) * (u.stop - u.start)
        together = max(1, _PROBED_BYTES // size)
        for first in range(0, tilts, together):
            some = slice(first, min(first + together, tilts))
            found.add(series.read(y, u, some), first)
    return found


def _typical(raw: NDArray[np.float32], good: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Median of each tilt's good pixels; of all good ones where a tilt has none."""
    typical = np.empty(len(raw), dtype=np.float32)
    seen = good.any(axis=(1, 2))
    if not seen.all():
        typical[~seen] = np.median(raw[good])
    for tilt in np.flatnonzero(seen):
        typical[tilt] = np.median(raw[tilt][good[tilt]])
    return typical


def _sample_rows(shape: tuple[int, int, int], columns: int) -> list[slice]:
    """Groups of rows; shorter ones where many ``columns`` of a wide field are needed."""
    tilts, rows, field = shape
    few = rows <= SAMPLE_GROUPS * SAMPLE_ROWS
    if field <= WHOLE_SAMPLE:
        few = few and 4 * tilts * rows * field <= _SAMPLE_BYTES
    together = rows if few else min(rows, SAMPLE_ROWS)
    if field > WHOLE_SAMPLE:
        together = min(together, max(1, _SAMPLE_BYTES // (4 * tilts * columns)))
    if together == rows:
        return [slice(0, rows)]
    groups = min(SAMPLE_GROUPS, rows // together)
    starts = np.linspace(0, rows - together, groups).astype(int)
    return [slice(int(s), int(s) + together) for s in starts]


def _sample_columns(geometry: Geometry) -> Iterator[tuple[DetectorPart, Geometry]]:
    """Columns that are sampled of each tilt.

    A wide slab is sampled in places of the specimen, spread over the field. Each tilt is sampled
    around the column that shows the place's middle, ``(x0 - c) cos(theta) + c + dx``. A detector of
    so many columns would record the same with the place at its centre. So the rules for a narrow
    field hold, and rays that leave the place are not used, although they are inside the wide field.
    An isolated specimen is taken whole: its mass says what its mean is.
    """
    field = geometry.field
    if field <= WHOLE_SAMPLE or geometry.boundary == "vacuum":
        yield DetectorPart((0,) * geometry.tilts, field), geometry
        return
    # Wide enough that most rays stay within the place.
    width = min(WHOLE_SAMPLE, max(SAMPLE_COLUMNS, 4 * geometry.reach))
    moves = [geometry.shift(tilt)[0] for tilt in range(geometry.tilts)]
    along_y = tuple((dy, 0.0) for dy in moves) if any(moves) else ()
    seen = replace(geometry, field=width, shifts_px=along_y)
    centre = field / 2
    for place in np.linspace(width / 2, field - width / 2, SAMPLE_PLACES):
        middle = [
            (place - centre) * math.cos(angle) + centre + geometry.shift(tilt)[1]
            for tilt, angle in enumerate(geometry.angles)
        ]
        first = (min(max(round(m - width / 2), 0), field - width) for m in middle)
        yield DetectorPart(tuple(first), width), seen
