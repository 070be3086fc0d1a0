"""Reading the tilt series for one block of rows: shifts along y, unmeasured pixels, intensity."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.operators.slab.stretch import DetectorPart, interpolate_rows
from ddgm_dist.pixels.hot_pixels import MARGIN
from ddgm_dist.pixels.screen import Screen
from ddgm_dist.tilts.digests import CHUNK_COLUMNS
from ddgm_dist.tilts.reader import TiltSeries

__all__ = ["BRIDGE", "read_rows", "read_screened", "repair"]

_Kind = TypeVar("_Kind", bound=np.generic)

ROW_SUPPORT = 4
# Bad pixels are bridged over at most so many columns; a repaired value depends on nothing farther.
BRIDGE = 64
# Pixels that are screened at a time, as float32, and at least a chunk's columns.
_SCREENED_BYTES = 32 * 2**20


def read_rows(
    tilts: TiltSeries,
    geometry: Geometry,
    intensity: Intensity,
    start: int,
    stop: int,
    part: DetectorPart | None = None,
    *,
    screen: Screen | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Normalised measurements of some of the volume's rows.

    Parameters
    ----------
    tilts
        Open tilt series.
    geometry, intensity
        Those of the problem.
    start, stop
        Rows of the volume. Those beyond its end are filled with the mean and not trusted.
    part
        Detector columns wanted of each tilt, as the operator that solves the block names them
        (:attr:`ddgm_dist.operators.slab.operator.SlabOperator.detector_part`); all when None.
    screen
        Pixels that it masks are not trusted, as those that are not finite.

    Returns
    -------
    projections, valid
        Float32 ``(tilt, rows, columns)``; 1 where a sample is trusted, None when all are. Bit
        for bit that part of what the whole width gives.
    """
    shift = [geometry.shift(t)[0] for t in range(geometry.tilts)]
    moved = any(shift)
    low, high = (math.floor(min(shift)), math.ceil(max(shift))) if moved else (0, 0)
    support = ROW_SUPPORT if any(s != round(s) for s in shift) else 0
    first = max(0, min(start + low - support, geometry.rows - 1))
    last = max(first + 1, min(geometry.rows, stop + high + support + 1 if moved else stop))
    part = part or DetectorPart((0,) * geometry.tilts, geometry.field)
    fill = intensity.background(geometry).numpy()
    raw, finite = _repaired(tilts, slice(first, last), part, fill, screen)
    values = torch.from_numpy(raw)
    if not moved and last - first == stop - start and finite is None:
        return intensity.normalise(values, geometry), None
    trusted = torch.ones(values.shape)
    if finite is not None:
        trusted = torch.from_numpy(finite.astype(np.float32))
    rows = torch.arange(start, stop, dtype=torch.float64)
    read, valid = [], []
    for tilt, dy in enumerate(shift):
        position = rows + dy
        inside = (rows < geometry.rows) & (position >= 0) & (position <= geometry.rows - 1)
        position = (position - first).clamp(0, last - first - 1)
        whole = position.round().long()
        if dy == round(dy):
            read.append(values[tilt][whole])
            ok = trusted[tilt][whole]
        else:
            read.append(interpolate_rows(values[tilt], position))
            ok = torch.minimum(
                trusted[tilt][position.floor().long()], trusted[tilt][position.ceil().long()]
            )
        valid.append(ok * inside[:, None])
    normalised = intensity.normalise(torch.stack(read), geometry)
    mask = torch.stack(valid)
    # Rows that were never measured carry no data; zero is the normalised background's projection.
    return torch.where((mask > 0).any(dim=-1, keepdim=True), normalised, 0.0), mask


def read_screened(
    tilts: TiltSeries, rows: slice, part: DetectorPart, screen: Screen | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Detector rows as they are stored, and which of their pixels were measured.

    The surroundings that decide whether a pixel is hot are read as well, so any part is screened as the
    whole is.
    """
    count, height, _ = tilts.shape
    lines = rows if screen is None else screen.around(rows.start, rows.stop, height)
    step = _SCREENED_BYTES // (4 * count * (lines.stop - lines.start))
    step = max(CHUNK_COLUMNS, step // CHUNK_COLUMNS * CHUNK_COLUMNS)
    if part.width <= step:
        return _screened(tilts, rows, lines, part, screen)
    # Any part is screened as the whole is, and less is held at a time.
    raw = np.empty((count, rows.stop - rows.start, part.width), dtype=np.float32)
    good = np.empty(raw.shape, dtype=bool)
    for start in range(0, part.width, step):
        stop = min(start + step, part.width)
        narrow = DetectorPart(tuple(first + start for first in part.first), stop - start)
        raw[..., start:stop], good[..., start:stop] = _screened(tilts, rows, lines, narrow, screen)
    return raw, good


def _screened(
    tilts: TiltSeries, rows: slice, lines: slice, part: DetectorPart, screen: Screen | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """As `read_screened`; ``lines`` are the rows with those around them."""
    if screen is None:
        raw = tilts.read_lines(rows, part.first, part.width)
        return raw, np.isfinite(raw)
    wide = part if screen.hot is None else part.widened(MARGIN, tilts.shape[2])
    raw = tilts.read_lines(lines, wide.first, wide.width)
    good = np.isfinite(raw) & screen.good(raw, lines.start, wide.first)
    inner = slice(rows.start - lines.start, rows.stop - lines.start)
    return _cut(raw[:, inner], wide, part), _cut(good[:, inner], wide, part)


def _repaired(
    tilts: TiltSeries,
    rows: slice,
    part: DetectorPart,
    fill: NDArray[np.float32],
    screen: Screen | None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Detector rows without bad pixels, and which pixels were good; None when all were."""
    if screen is None and not tilts.may_be_bad:
        return tilts.read_lines(rows, part.first, part.width), None
    # The pixels that those at the part's ends are repaired from are read as well.
    wide = part.widened(BRIDGE, tilts.shape[2])
    raw, good = read_screened(tilts, rows, wide, screen)
    clean = bool(good.all())
    if not clean:
        raw = repair(raw, good, fill)
    return _cut(raw, wide, part), None if clean else _cut(good, wide, part)


def _cut(lines: NDArray[_Kind], outer: DetectorPart, inner: DetectorPart) -> NDArray[_Kind]:
    """The inner part's columns of lines that were read of the outer part."""
    if outer == inner:
        return lines
    return np.stack(
        [
            line[:, a - b : a - b + inner.width]
            for line, a, b in zip(lines, inner.first, outer.first, strict=True)
        ]
    )


def repair(
    raw: NDArray[np.float32], finite: NDArray[np.bool_], fill: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Put plausible values in the place of bad pixels.

    The samples stay masked; the values only keep the kernels of stretching and of shifts along y from
    spreading NaN. Up to `BRIDGE` bad pixels in a detector row are bridged by linear interpolation. In
    longer runs the pixels nearer than half of that to a good one repeat it, and the others
    are filled. So a value depends on nothing farther than `BRIDGE` columns. A part of the detector
    that is read with that margin is repaired as the whole is.

    Parameters
    ----------
    raw
        Float32 ``(tilt, rows, columns)``.
    finite
        Bool ``(tilt, rows, columns)``: the good ones.
    fill
        Per tilt, for pixels far from any good one; 0 when None.
    """
    out = raw.copy()
    for tilt, row in zip(*np.nonzero(~finite.all(axis=-1)), strict=True):
        value = 0.0 if fill is None else float(fill[tilt])
        out[tilt, row] = _bridged(raw[tilt, row], finite[tilt, row], value)
    return out


def _bridged(
    line: NDArray[np.float32], good: NDArray[np.bool_], fill: float
) -> NDArray[np.float32]:
    """Repair one detector row; see :func:`repair`."""
    column, far = np.arange(len(line)), 2 * len(line) + BRIDGE
    left = np.maximum.accumulate(np.where(good, column, -far))
    right = np.minimum.accumulate(np.where(good, column, len(line) + far)[::-1])[::-1]
    bad = np.flatnonzero(~good)
    left, right = left[bad], right[bad]
    before, after = bad - left, right - bad
    ends = line.astype(np.float64)
    a, b = ends[np.maximum(left, 0)], ends[np.minimum(right, len(line) - 1)]
    repaired = np.full(len(bad), fill)
    near = np.minimum(before, after) <= BRIDGE // 2
    repaired[near] = np.where(before < after, a, b)[near]
    short = right - left <= BRIDGE + 1
    slope = (b[short] - a[short]) / (right - left)[short]
    repaired[short] = slope * before[short] + a[short]
    out = line.copy()
    out[bad] = repaired
    return out
