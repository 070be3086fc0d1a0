"""The part of a tilt series that no volume explains, per view, from a few of its rows.

It takes four rows that are spread over the field. What is left of them is compared with what is left
of white noise (:mod:`ddgm_dist.operators.slab.consistency`). Thick slabs are binned first, the mean of
neighbouring columns: only at low frequencies do the views depend on each other. From wide fields the
middle is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.operators.slab.consistency import unexplained
from ddgm_dist.operators.slab.operator import SlabOperator
from ddgm_dist.operators.slab.stretch import DetectorPart
from ddgm_dist.pixels.screen import Screen
from ddgm_dist.tilts.reader import TiltSeries
from ddgm_dist.tilts.rows import read_rows

__all__ = ["Unexplained", "measure_unexplained"]

_ROWS = 4
# Binned until the slab is no thicker, and an isolated specimen's field no wider.
_THICKNESS, _WIDEST = 64, 1024
# Columns of a slab that are enough, binned; and that many times the reach.
_COLUMNS, _REACHES = 512, 4
# So much of white noise must be left, or the views hardly depend on each other.
_LEAST_LEFT = 0.02


@dataclass(frozen=True)
class Unexplained:
    """Standard deviation of white noise that would leave as much unexplained; projection units.

    It holds the noise as well as the misfit.

    Attributes
    ----------
    total
        Of all views.
    views
        Of each view; 0 where it was not measured. The outermost views depend least on the others, so
        their figures are the least certain.
    typical
        The same of each view by medians: of half of its pixels, whatever the others are.
    """

    total: float
    views: tuple[float, ...]
    typical: tuple[float, ...]


@dataclass(frozen=True)
class _Part:
    """Middle columns of the detector, binned.

    Attributes
    ----------
    columns
        Columns that are read.
    bin
        Columns that are averaged.
    geometry
        Geometry that the binned part would have alone.
    """

    columns: DetectorPart
    bin: int
    geometry: Geometry


def measure_unexplained(
    series: TiltSeries, geometry: Geometry, intensity: Intensity, screen: Screen | None = None
) -> Unexplained | None:
    """Measure what no volume explains; None where the views hardly depend on each other.

    Parameters
    ----------
    series, geometry
        Open store; of the problem.
    intensity
        Mean and standard deviation of the volume.
    screen
        Rule that says which pixels are masked.
    """
    part = _part(geometry)
    spread = np.unique((2 * np.arange(_ROWS) + 1) * geometry.rows // (2 * _ROWS))
    rows, size = len(spread), part.bin
    shape = (geometry.tilts, rows, part.columns.width)
    noise = _binned(torch.randn(shape, generator=torch.Generator().manual_seed(0)), size)
    read = list[Tensor]()
    valid = list[Tensor]()
    for y in spread:  # binned at once, as rows of many views are large
        values, ok = read_rows(
            series, geometry, intensity, int(y), int(y) + 1, part.columns, screen=screen
        )
        read.append(_binned(values, size))
        known = torch.ones_like(read[-1]) if ok is None else _binned(ok, size).eq(1).float()
        valid.append(known)
        del values, ok

    isolated = geometry.boundary == "vacuum"
    # The same in fewer, thicker layers.
    vacuum = intensity.vacuum * geometry.thickness / part.geometry.thickness if isolated else 0.0
    operator = SlabOperator(part.geometry, background=vacuum)
    both = operator.prepare(
        torch.cat((*read, noise), dim=1),
        torch.cat(valid, dim=1).repeat(1, 2, 1),
    )
    first, last = operator.columns
    empty = torch.full((part.geometry.thickness, rows, last - first), vacuum)
    measured = both.measured.expand(both.stretched.shape)
    start = both.stretched.clone()
    start[:, :rows] -= measured[:, :rows] * operator.A(empty)
    left = unexplained(operator, start, measured).double().numpy()
    squares = np.square(left).sum(axis=2)
    there = float(start[:, rows:].double().square().sum())
    if not float(squares[:, rows:].sum()) > _LEAST_LEFT * there:
        return None
    ours, white = squares[:, :rows], squares[:, rows:]
    seen, sizes = measured[:, :rows].numpy() > 0, np.abs(left)
    halves = [
        (a[ok], b[ok]) for a, b, ok in zip(sizes[:, :rows], sizes[:, rows:], seen, strict=True)
    ]
    return Unexplained(
        _ratio(ours.sum(axis=0), white.sum(axis=0)) * intensity.std,
        tuple(_ratio(a, b) * intensity.std for a, b in zip(ours, white, strict=True)),
        tuple(_typical(a, b) * intensity.std for a, b in halves),
    )


def _ratio(data: NDArray[np.float64], noise: NDArray[np.float64]) -> float:
    """Root of the median ratio over rows: a row with a fault does not count."""
    seen = noise > 0
    if not seen.any():
        return 0.0
    return math.sqrt(float(np.median(data[seen] / noise[seen])))


def _typical(data: NDArray[np.float64], noise: NDArray[np.float64]) -> float:
    """Ratio of the medians of what is left; 0 where nothing was measured."""
    return float(np.median(data) / np.median(noise)) if noise.size and np.median(noise) else 0.0


def _part(geometry: Geometry) -> _Part:
    isolated = geometry.boundary == "vacuum"
    size = math.ceil(geometry.thickness / _THICKNESS)
    if isolated:
        size = max(size, math.ceil(geometry.field / _WIDEST))
    size = min(size, geometry.field)
    columns = geometry.field // size
    if not isolated:
        columns = min(columns, max(_COLUMNS, _REACHES * math.ceil(geometry.reach / size)))
    width = columns * size
    start = (geometry.field - width) // 2
    # Half a pixel where the middle cannot be met.
    off = (geometry.field - width) / 2 - start
    shifts = tuple((0.0, (geometry.shift(t)[1] + off) / size) for t in range(geometry.tilts))
    coarse = replace(
        geometry,
        thickness=math.ceil(geometry.thickness / size),
        rows=2 * _ROWS,
        field=columns,
        shifts_px=shifts,
    )
    return _Part(DetectorPart((start,) * geometry.tilts, width), size, coarse)


def _binned(lines: Tensor, size: int) -> Tensor:
    """Mean of every ``size`` columns."""
    return lines if size == 1 else lines.reshape(*lines.shape[:2], -1, size).mean(dim=3)
