"""A fit of a few rows by a long descent: what it leaves, and what it would leave of white noise.

Noise descends beside the rows (:mod:`ddgm_dist.operators.slab.consistency`). The two are compared in two
ways. What is left of the rows over what is left of the noise is the part that no volume explains, view
by view. And what pixels share of the residual, beyond what they share of the noise's, says whether it
is a misfit; the quick verdict before a run rests on that.

Thick slabs are binned first, the mean of neighbouring columns: only at low frequencies do the views
depend on each other. From wide fields the middle is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.core.view_sums import ViewSums
from ddgm_dist.operators.slab.consistency import unexplained
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator
from ddgm_dist.operators.slab.residual_sums import LAG, sums_of_residual

__all__ = ["BinnedColumns", "Unexplained", "binned_columns", "fit_rows"]

# Binned until the slab is no thicker, and an isolated specimen's field no wider.
_THICKNESS, _WIDEST = 64, 1024
# Columns of a slab that are enough, binned; and that many times the reach.
_COLUMNS, _REACHES = 512, 4
# So much of white noise must be left, or the views hardly depend on each other.
_LEAST_LEFT = 0.02
# Binned columns between samples whose covariance is taken: neighbours share the kernel at their edge.
_LEAST_LAG = 2


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
    left
        Share of white noise that is left: the more views see the same, the more.
    """

    total: float
    views: tuple[float, ...]
    typical: tuple[float, ...]
    left: float


@dataclass(frozen=True)
class BinnedColumns:
    """Middle columns of the detector, binned.

    Attributes
    ----------
    start, stop
        Detector columns that are read, of every tilt.
    bin
        Columns that are averaged.
    geometry
        Geometry that the binned columns would have alone.
    """

    start: int
    stop: int
    bin: int
    geometry: Geometry

    def average(self, lines: Tensor) -> Tensor:
        """Mean of every ``bin`` columns, of ``(tilt, rows, columns)``."""
        if self.bin == 1:
            return lines
        return lines.reshape(*lines.shape[:2], -1, self.bin).mean(dim=3)


def binned_columns(geometry: Geometry) -> BinnedColumns:
    """The columns that are fitted: all of an isolated specimen's field, the middle of a slab's."""
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
    shifts = tuple((dy, (dx + off) / size) for dy, dx in map(geometry.shift, range(geometry.tilts)))
    coarse = replace(
        geometry,
        thickness=math.ceil(geometry.thickness / size),
        field=columns,
        shifts_px=shifts,
    )
    return BinnedColumns(start, start + width, size, coarse)


def fit_rows(
    columns: BinnedColumns,
    intensity: Intensity,
    thickness: int,
    values: Sequence[Tensor],
    valid: Sequence[Tensor],
) -> tuple[Unexplained | None, ViewSums]:
    """Fit rows, each of them for itself.

    Parameters
    ----------
    columns
        Columns that the rows consist of.
    intensity
        Mean and standard deviation of the volume.
    thickness
        Layers of the slab before binning.
    values, valid
        Normalised rows, float32 ``(tilt, 1, binned columns)``; 1 where all pixels that were averaged
        are valid, else 0.

    Returns
    -------
    unexplained
        What no volume explains; None where the views hardly depend on each other.
    sums
        Sums of the residual, in the unit of pixels that are not binned. What white noise shares is
        taken off ``shared``.
    """
    rows, size = len(values), columns.bin
    shape = (columns.geometry.tilts, rows, columns.stop - columns.start)
    noise = columns.average(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    isolated = columns.geometry.boundary == "vacuum"
    # The same in fewer, thicker layers.
    vacuum = intensity.vacuum * thickness / columns.geometry.thickness if isolated else 0.0
    operator = SlabOperator(columns.geometry, background=vacuum)
    both = operator.prepare(
        torch.cat((*values, noise), dim=1),
        torch.cat(tuple(valid), dim=1).repeat(1, 2, 1),
    )
    first, last = operator.columns
    empty = torch.full((columns.geometry.thickness, rows, last - first), vacuum)
    measured = both.measured.expand(both.stretched.shape)
    start = both.stretched.clone()
    start[:, :rows] -= measured[:, :rows] * operator.A(empty)
    left = unexplained(operator, start, measured)
    lag = max(_LEAST_LAG, math.ceil(LAG / size))
    ours, white = (ViewSums.zero(len(left)) for _ in range(2))
    for row in range(rows):
        mine, theirs = (
            sums_of_residual(operator, left[:, k], SlabData(start[:, k], measured[:, k]), lag=lag)
            for k in (slice(row, row + 1), slice(rows + row, rows + row + 1))
        )
        ours, white = ours + mine, white + theirs
    there = float(start[:, rows:].double().square().sum())
    known = measured[:, :rows].numpy() > 0
    found = _unexplained(left.double().numpy(), known, there, intensity.std)
    return found, _beyond(ours, white, size)


def _unexplained(
    left: NDArray[np.float64], known: NDArray[np.bool_], there: float, unit: float
) -> Unexplained | None:
    """Residual of rows, of which the second half is noise, in the unit of white noise.

    Parameters
    ----------
    left
        Residual ``(tilt, 2 rows, columns)``.
    known
        Measured samples of the first half.
    there
        Sum of the squares of the noise before the descent.
    unit
        Standard deviation of the noise, projection units.
    """
    rows = left.shape[1] // 2
    squares, sizes = np.square(left).sum(axis=2), np.abs(left)
    remaining = float(squares[:, rows:].sum())
    if not remaining > _LEAST_LEFT * there:
        return None
    ours, white = squares[:, :rows], squares[:, rows:]
    halves = [
        (a[ok], b[ok]) for a, b, ok in zip(sizes[:, :rows], sizes[:, rows:], known, strict=True)
    ]
    return Unexplained(
        _ratio(ours.sum(axis=0), white.sum(axis=0)) * unit,
        tuple(_ratio(a, b) * unit for a, b in zip(ours, white, strict=True)),
        tuple(_typical(a, b) * unit for a, b in halves),
        remaining / there,
    )


def _beyond(ours: ViewSums, white: ViewSums, size: int) -> ViewSums:
    """Sums per pixel, without what a residual of white noise shares as well.

    A descent follows some frequencies of noise better than others, so neighbours share what is left.
    """
    shared = (
        mine - (square * theirs / there if there > 0 else 0.0)
        for mine, square, theirs, there in zip(
            ours.shared, ours.squared, white.shared, white.squared, strict=True
        )
    )
    # The mean of some pixels has so much less noise.
    return replace(
        ours, shared=tuple(shared), samples=tuple(count / size for count in ours.samples)
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
