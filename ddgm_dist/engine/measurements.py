"""Reading the tilt series for one block of rows: shifts along y, bad pixels, intensity."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddgm_dist.core.box import Box
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.operators.stretch import DetectorPart, interpolate_rows
from ddgm_dist.plan.problem import Problem
from ddgm_dist.storage.tilt_series import TiltSeries

__all__ = ["BRIDGE", "read_block", "read_rows", "repair"]

ROW_SUPPORT = 4
# Bad pixels are bridged over at most so many columns; what mends a pixel lies that near.
BRIDGE = 64


def read_block(
    tilts: TiltSeries, problem: Problem, box: Box, part: DetectorPart | None = None
) -> tuple[Tensor, Tensor | None]:
    """Normalised measurements of a block's rows.

    Parameters
    ----------
    tilts
        Open store.
    problem
        Gives geometry and intensity.
    box
        The block; rows beyond the volume's end are filled with the mean and not trusted.
    part
        Detector columns wanted of each tilt, as the operator that solves the block tells
        (:attr:`ddgm_dist.operators.slab.SlabOperator.detector_part`); all when None.

    Returns
    -------
    projections, valid
        Float32 ``(tilt, rows, columns)``; 1 where a sample is trusted, None when all are. Bit
        for bit that part of what the whole width gives.
    """
    return read_rows(tilts, problem.geometry, problem.intensity, box.start[1], box.stop[1], part)


def read_rows(
    tilts: TiltSeries,
    geometry: Geometry,
    intensity: Intensity,
    start: int,
    stop: int,
    part: DetectorPart | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Normalised rows ``[start, stop)`` of the volume; see :func:`read_block`."""
    shift = [geometry.shift(t)[0] for t in range(geometry.tilts)]
    moved = any(shift)
    low, high = (math.floor(min(shift)), math.ceil(max(shift))) if moved else (0, 0)
    support = ROW_SUPPORT if any(s != round(s) for s in shift) else 0
    first = max(0, min(start + low - support, geometry.rows - 1))
    last = max(first + 1, min(geometry.rows, stop + high + support + 1 if moved else stop))
    part = part or DetectorPart((0,) * geometry.tilts, geometry.field)
    raw, finite = _mended(tilts, slice(first, last), part, intensity.background(geometry).numpy())
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


def _mended(
    tilts: TiltSeries, rows: slice, part: DetectorPart, fill: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Detector rows without bad pixels, and which pixels were good; None when all were."""
    if not tilts.may_be_bad:
        return tilts.read_lines(rows, part.first, part.width), None
    # What mends the pixels at the part's ends is read as well.
    wide = part.widened(BRIDGE, tilts.shape[2])
    raw = tilts.read_lines(rows, wide.first, wide.width)
    finite = np.isfinite(raw)
    clean = bool(finite.all())
    if not clean:
        raw = repair(raw, finite, fill)
    if wide != part:
        raw, finite = (
            np.stack(
                [
                    lines[:, inner - outer : inner - outer + part.width]
                    for lines, inner, outer in zip(a, part.first, wide.first, strict=True)
                ]
            )
            for a in (raw, finite)
        )
    return raw, None if clean else finite


def repair(
    raw: NDArray[np.float32],
    finite: NDArray[np.bool_],
    fill: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Put plausible values in the place of bad pixels.

    Only so that the kernels of stretching and of shifts along y do not spread them: the samples
    stay masked. Up to `BRIDGE` bad pixels in a detector row are bridged by linear interpolation. In
    longer runs the pixels nearer than half of that to a good one repeat it, and the others
    are filled. So what a pixel becomes depends on nothing farther than `BRIDGE` columns, and a part
    of the detector that is read with that margin is mended as the whole is.

    Parameters
    ----------
    raw
        Float32 ``(tilt, rows, columns)``.
    finite
        Which of them are good.
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
    """One detector row, mended; see :func:`repair`."""
    column, far = np.arange(len(line)), 2 * len(line) + BRIDGE
    left = np.maximum.accumulate(np.where(good, column, -far))
    right = np.minimum.accumulate(np.where(good, column, len(line) + far)[::-1])[::-1]
    bad = np.flatnonzero(~good)
    left, right = left[bad], right[bad]
    before, after = bad - left, right - bad
    ends = line.astype(np.float64)
    a, b = ends[np.maximum(left, 0)], ends[np.minimum(right, len(line) - 1)]
    mended = np.full(len(bad), fill)
    near = np.minimum(before, after) <= BRIDGE // 2
    mended[near] = np.where(before < after, a, b)[near]
    short = right - left <= BRIDGE + 1
    slope = (b[short] - a[short]) / (right - left)[short]
    mended[short] = slope * before[short] + a[short]
    out = line.copy()
    out[bad] = mended
    return out
