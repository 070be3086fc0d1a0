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
from ddgm_dist.operators.stretch import interpolate_rows
from ddgm_dist.plan.problem import Problem
from ddgm_dist.storage.tilt_series import TiltSeries

__all__ = ["read_block", "read_rows", "repair"]

ROW_SUPPORT = 4


def read_block(tilts: TiltSeries, problem: Problem, box: Box) -> tuple[Tensor, Tensor | None]:
    """Normalised measurements of a block's rows, over the whole width of the detector.

    Parameters
    ----------
    tilts
        Open store.
    problem
        Gives geometry and intensity.
    box
        The block; rows beyond the volume's end are filled with the mean and not trusted.

    Returns
    -------
    projections, valid
        Float32 ``(tilt, rows, field)``; 1 where a sample is trusted, None when all are.
    """
    return read_rows(tilts, problem.geometry, problem.intensity, box.start[1], box.stop[1])


def read_rows(
    tilts: TiltSeries, geometry: Geometry, intensity: Intensity, start: int, stop: int
) -> tuple[Tensor, Tensor | None]:
    """Normalised rows ``[start, stop)`` of the volume; see :func:`read_block`."""
    shift = [geometry.shift(t)[0] for t in range(geometry.tilts)]
    moved = any(shift)
    low, high = (math.floor(min(shift)), math.ceil(max(shift))) if moved else (0, 0)
    support = ROW_SUPPORT if any(s != round(s) for s in shift) else 0
    first = max(0, min(start + low - support, geometry.rows - 1))
    last = max(first + 1, min(geometry.rows, stop + high + support + 1 if moved else stop))
    raw = tilts.read(slice(first, last))
    finite = np.isfinite(raw)
    clean = bool(finite.all())
    values = torch.from_numpy(raw if clean else repair(raw, finite))
    if not moved and last - first == stop - start and clean:
        return intensity.normalise(values, geometry), None
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


def repair(raw: NDArray[np.float32], finite: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Bridge bad pixels along each detector row by linear interpolation.

    Only so that the stretching's kernel does not spread them: the samples stay masked.
    """
    out = raw.copy()
    columns = np.arange(raw.shape[-1])
    for tilt, row in zip(*np.nonzero(~finite.all(axis=-1)), strict=True):
        good = finite[tilt, row]
        line = out[tilt, row]
        line[~good] = np.interp(columns[~good], columns[good], line[good]) if good.any() else 0.0
    return out
