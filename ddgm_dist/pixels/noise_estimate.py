"""Estimate the noise of projections, view by view.

The mixed fourth difference along rows and columns removes the smooth specimen and keeps white noise.
The median absolute value gives its standard deviation (Immerkaer 1996, Comput. Vis. Image Underst. 64,
300, with a robust scale).

Pixels that were interpolated or smoothed have correlated noise. Their neighbours differ by less than
the noise. Differences of pixels that are two or three apart do not. So where these are larger, the noise
is correlated, or the specimen has a fine texture. Only the agreement of the views tells which:
:func:`correlated_noise` takes what no volume explains as the most that can be noise.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import torch
from torch import Tensor

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.pixels.omitted_lines import Lines, measured_lines

__all__ = [
    "STRIDES",
    "correlated_noise",
    "estimate_noise",
    "noise_of_lines",
    "noise_of_views",
    "rms",
]

# Distances of the pixels that are compared. Interpolation reaches over two pixels.
STRIDES = (1, 2, 3)
# Correlated, if half of the views exceed what neighbours say by this factor. White noise stays below.
_CORRELATED = 1.2


def rms(scales: Sequence[Tensor]) -> float:
    """Root of the mean square of scalars, float64."""
    return float(torch.stack(list(scales)).square().mean().sqrt())


def estimate_noise(projections: Tensor) -> float:
    """Standard deviation of white noise in projections ``(tilt, rows, field)``, over all tilts."""
    return rms([noise_of_lines(projection.double()) for projection in projections])


def noise_of_lines(p: Tensor, rows: Tensor | None = None, stride: int = 1) -> Tensor:
    """Standard deviation of the noise in one projection ``(rows, field)``, float64 scalar.

    Parameters
    ----------
    p
        Float64 ``(rows, field)``.
    rows
        The rows that count; differences are taken between these alone. All when None.
    stride
        Distance of the pixels that are compared.
    """
    kept = torch.zeros(len(p), dtype=torch.bool)
    kept[slice(None) if rows is None else rows] = True
    threes = kept[: -2 * stride] & kept[stride:-stride] & kept[2 * stride :]
    d = _second(p, stride, 1)
    norm = math.sqrt(6)
    if bool(threes.any()):
        d = _second(d, stride, 0)
        d = d if bool(threes.all()) else d[threes]
        norm = 6.0
    else:
        d = d if bool(kept.all()) else d[kept]
        if p.shape[-1] >= 4 * stride + 1:
            d = _second(d, stride, 1)
            norm = math.sqrt(70)
    if d.numel() == 0:
        return torch.zeros((), dtype=torch.float64)
    return d.abs().flatten().median() / 0.6744897501960817 / norm


def _second(p: Tensor, stride: int, axis: int) -> Tensor:
    """Second difference of ``(rows, field)`` along an axis; empty where it is too short."""
    size = p.shape[axis] - 2 * stride
    if size <= 0:
        return p.narrow(axis, 0, 0)
    a, b, c = (p.narrow(axis, k * stride, size) for k in range(3))
    return a - 2 * b + c


def noise_of_views(
    projections: Tensor, geometry: Geometry, good: Tensor | None = None, *, every: bool = False
) -> dict[int, tuple[Tensor, ...]]:
    """Noise of each view that measures something, at each of `STRIDES`; float64 scalars.

    Parameters
    ----------
    projections, geometry, good
        See :func:`ddgm_dist.pixels.omitted_lines.measured_lines`.
    every
        Use all lines of all views.
    """
    tilts, _, field = projections.shape
    lines = [Lines(t, None, 0, field) for t in range(tilts)]
    if not every:
        lines = measured_lines(projections, geometry, good)
    found = {}
    for line in lines:
        part = projections[line.tilt, :, line.first : line.stop].double()
        found[line.tilt] = tuple(noise_of_lines(part, line.rows, s) for s in STRIDES)
    return found


def correlated_noise(
    strides: Sequence[Sequence[float]], unexplained: Sequence[float]
) -> tuple[float, ...] | None:
    """Noise of each view, where pixels are correlated; None where that is not seen.

    Parameters
    ----------
    strides
        Noise of each view by `STRIDES`; zeros for a view that was not measured.
    unexplained
        What no volume explains of each view, as the standard deviation of white noise.
    """
    white = [view[0] for view in strides]
    more = [min(view[1:]) for view in strides]
    # A quarter of the views tell: faults of a few views spread to others, but not to all.
    most = sorted(u for u in unexplained if u > 0)
    cap = most[len(most) // 4] if most else 0.0
    ratios = [min(m, cap) / w for w, m in zip(white, more, strict=True) if w > 0]
    if not ratios or not statistics.median(ratios) > _CORRELATED:
        return None
    return tuple(max(w, min(m, u)) for w, m, u in zip(white, more, unexplained, strict=True))
