r"""Cosine stretching: measured detector samples u to the sheared coordinate s = u / cos(theta).

In s every tilt is a pure shear of the slab, but a detector samples u. One unit of s is cos(theta)
units of u, so reading the detector at ``u = s cos(theta) + dx`` *over*-samples it. There is no
aliasing: the band-limited function through the measured samples fixes every value.

Place in the adjoint
--------------------
Let ``C_t`` be this interpolation times ``sqrt(cos theta_t)``. The stretched samples of a
band-limited function number ``1/cos`` times the measured ones, so
``sum_s |C_t b|^2 = cos * (1/cos) * sum_u |b|^2``. So C_t is an isometry from detector samples onto
the functions of s that vanish above ``|k| = pi cos(theta_t)``. In formulas ``C_t^H C_t = I`` and
``C_t C_t^H = P_t``, the projection onto that band. The operator on the detector's own samples is
``A_u = C^H A_s`` with the slab operator ``A_s``, whose rows above the band are zero. Hence
``P A_s = A_s`` and

    A_u^H A_u = A_s^H C C^H A_s = A_s^H A_s,        A_u^H b = A_s^H (C b).

So the data are stretched once, when they are read, and descending in s is descending in u. White
noise of standard deviation sigma_y on u stays sigma_y on each mode of the band in s.

The interpolation is a Kaiser-windowed sinc of finite support. So a tile that reads only the columns
under its box gets the same numbers as any other tile. Measured: relative error below 1e-3 for
signals up to 0.85 of the detector's Nyquist frequency (tests/operators/slab/test_stretch.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddgm_dist.core.geometry import Geometry

__all__ = [
    "HALF_WIDTH",
    "DetectorPart",
    "interpolate_rows",
    "stretch",
    "stretched_positions",
    "stretching_part",
]

HALF_WIDTH = 16
_BETA = 7.0
# Columns that are interpolated at a time.
_PIECE = 1024


@dataclass(frozen=True)
class DetectorPart:
    """A range of detector columns for each tilt, all equally long.

    Attributes
    ----------
    first
        Detector column that the part of each tilt begins with.
    width
        Columns of each; ``first + width`` is at most the detector's width.
    """

    first: tuple[int, ...]
    width: int

    def widened(self, columns: int, field: int) -> DetectorPart:
        """The part with ``columns`` more on each side, within a detector of ``field`` columns.

        Where the detector ends, the other side gets the rest: the parts stay equally long.
        """
        width = min(field, self.width + 2 * columns)
        first = tuple(min(max(f - columns, 0), field - width) for f in self.first)
        return DetectorPart(first, width)


def stretching_part(geometry: Geometry, start: int, stop: int) -> DetectorPart:
    """Detector columns of each tilt that stretching onto columns ``[start, stop)`` reads.

    In a wide field the parts of steep tilts lie far from ``[start, stop)``: column s is seen at
    ``(s - c) cos(theta) + c + dx`` with the field's centre c. Beyond the detector's ends
    stretching repeats its end columns, so at least one column is read.
    """
    field = geometry.field
    needed = []
    for tilt, angle in enumerate(geometry.angles):
        ends = torch.tensor([start, stop - 1], dtype=torch.float64)
        u = _detector_column(ends, angle, geometry.shift(tilt)[1], field)
        low, high = (
            math.floor(float(u[0])) + 1 - HALF_WIDTH,
            math.floor(float(u[1])) + HALF_WIDTH + 1,
        )
        needed.append((low, high))
    width = min(field, max(high - low for low, high in needed))
    return DetectorPart(tuple(min(max(low, 0), field - width) for low, _ in needed), width)


def _kernel(distance: Tensor, half_width: int) -> Tensor:
    """Kaiser-windowed sinc at the given distances in samples, float64."""
    inside = (1 - (distance / half_width).square()).clamp(min=0)
    window = torch.special.i0(_BETA * inside.sqrt()) / torch.special.i0(
        torch.tensor(_BETA, dtype=torch.float64)
    )
    kernel: Tensor = torch.sinc(distance) * window * (distance.abs() < half_width)
    return kernel


def interpolation_taps(
    position: Tensor, samples: int, half_width: int = HALF_WIDTH
) -> tuple[Tensor, Tensor]:
    """Indices and weights that read a line of samples at fractional positions.

    Weights are normalised to sum to one, so a constant stays that constant. Taps beyond the
    line's ends repeat its end samples.

    Returns
    -------
    index, weight
        int64 and float64, shape ``(positions, 2 * half_width)``.
    """
    base = torch.floor(position).to(torch.int64)
    offset = torch.arange(1 - half_width, half_width + 1)
    tap = base[:, None] + offset
    weight = _kernel(position[:, None] - tap.to(torch.float64), half_width)
    return tap.clamp(0, samples - 1), weight / weight.sum(dim=1, keepdim=True)


def stretched_positions(angle: float, dx: float, start: int, stop: int, field: int) -> Tensor:
    """Detector column read for each global column s in ``[start, stop)``, float64.

    Both axes are centred: column i of the volume is the coordinate ``i - (field - 1) / 2``, and so
    is column i of the detector.
    """
    return _detector_column(torch.arange(start, stop, dtype=torch.float64), angle, dx, field)


def _detector_column(column: Tensor, angle: float, dx: float, field: int) -> Tensor:
    """Detector column of global columns; float64 leaves 1e-9 of a pixel in a million columns."""
    centre = (field - 1) / 2
    return (column - centre) * math.cos(angle) + dx + centre


def stretch(
    projection: Tensor,
    angle: float,
    dx: float,
    start: int,
    stop: int,
    *,
    first: int = 0,
    field: int | None = None,
) -> Tensor:
    """``C_t b``: one tilt's rows at the global columns ``[start, stop)`` of s.

    Parameters
    ----------
    projection
        One tilt, float32 ``(rows, columns)``: the whole width of the detector, or at least the
        part that :func:`stretching_part` returns. The result is the same, bit for bit.
    angle, dx
        Tilt in radians; shift along u in pixels.
    start, stop
        Global columns.
    first
        Detector column that the projection begins with.
    field
        Width of the detector; that of the projection when None.

    Returns
    -------
    Tensor
        Float32 ``(rows, stop - start)``, multiplied by ``sqrt(cos(angle))``. Columns whose ray
        misses the detector repeat its edge; the operator's mask marks them.
    """
    field = projection.shape[-1] if field is None else field
    position = stretched_positions(angle, dx, start, stop, field)
    index, weight = interpolation_taps(position, field)
    index = index - first
    weight = (weight * math.sqrt(math.cos(angle))).to(projection)
    index = index.to(projection.device)
    out = projection.new_empty((projection.shape[0], stop - start))
    for i in range(0, stop - start, _PIECE):  # taps of all columns at once would be large
        part = slice(i, i + _PIECE)
        out[:, part] = (projection[:, index[part]] * weight[part]).sum(dim=-1)
    return out


def interpolate_rows(projection: Tensor, position: Tensor, half_width: int = 4) -> Tensor:
    """Read one tilt at fractional detector rows, for per-tilt shifts dy.

    Parameters
    ----------
    projection
        Float32 ``(rows, field)``.
    position
        Rows to read, in units of the given array's rows, float64 ``(n,)``.

    Returns
    -------
    Tensor
        Float32 ``(n, field)``.
    """
    index, weight = interpolation_taps(position, projection.shape[0], half_width)
    index, weight = index.to(projection.device), weight.to(projection)
    out = torch.zeros((len(index), projection.shape[1])).to(projection)
    # Tap by tap: a sum's order, so its rounding, would depend on how many columns there are.
    for tap in range(2 * half_width):
        out += projection[index[:, tap]] * weight[:, tap, None]
    return out
