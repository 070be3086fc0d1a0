"""Affine maps of a view's pixel coordinates, in IMOD's convention of ``.xf`` files.

A point ``(x, y)`` of the input lands at::

    x' = a11 (x - xci) + a12 (y - yci) + dx + xco
    y' = a21 (x - xci) + a22 (y - yci) + dy + yco

Coordinates are indices of columns (x) and rows (y), counted from the centre of the first pixel. The
centres ``xci`` and ``xco`` of input and output are ``(n - 1) / 2`` for ``n`` pixels. So they lie
half-way between two pixels where n is even. Source: IMOD's manual page xf2rotmagstr.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ddgm_dist.errors import InputError

__all__ = ["Affine"]

# Determinants beyond these are no alignment of one microscope's images.
_SMALLEST, _LARGEST = 1e-3, 1e3


@dataclass(frozen=True)
class Affine:
    """One line of an ``.xf`` file: from centred input to centred output coordinates, pixels.

    Attributes
    ----------
    a11, a12, a21, a22
        Linear part, ``x' = a11 x + a12 y`` and ``y' = a21 x + a22 y``.
    dx, dy
        Shift, output pixels.
    """

    a11: float = 1.0
    a12: float = 0.0
    a21: float = 0.0
    a22: float = 1.0
    dx: float = 0.0
    dy: float = 0.0

    def __post_init__(self) -> None:
        values = (self.a11, self.a12, self.a21, self.a22, self.dx, self.dy)
        if not all(math.isfinite(value) for value in values):
            raise InputError("transform", values, "must be six finite numbers")
        if not _SMALLEST <= abs(self.determinant) <= _LARGEST:
            raise InputError(
                "transform",
                values,
                f"has determinant {self.determinant:.3g}: it maps the image to nothing, or far apart",
            )

    @property
    def determinant(self) -> float:
        """Area of the output per area of the input; negative for a mirror image."""
        return self.a11 * self.a22 - self.a12 * self.a21

    @classmethod
    def turn_axis(cls, degrees: float) -> Affine:
        """Rotation that makes a tilt axis vertical (parallel to y).

        Parameters
        ----------
        degrees
            Angle of the tilt axis from the vertical, counter-clockwise as IMOD displays images: rows
            count upwards. An axis at 84 degrees points from the origin towards ``(-sin 84, cos 84)``.
        """
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        quarter = degrees / 90
        if quarter == round(quarter):  # so that a quarter turn moves pixels and mixes none
            c, s = float(round(c)), float(round(s))
        return cls(c, s, -s, c)

    def then(self, other: Affine) -> Affine:
        """Return the map that does this one first, and then another one."""
        return Affine(
            other.a11 * self.a11 + other.a12 * self.a21,
            other.a11 * self.a12 + other.a12 * self.a22,
            other.a21 * self.a11 + other.a22 * self.a21,
            other.a21 * self.a12 + other.a22 * self.a22,
            other.a11 * self.dx + other.a12 * self.dy + other.dx,
            other.a21 * self.dx + other.a22 * self.dy + other.dy,
        )

    def inverse(self) -> Affine:
        """Map from the output to the input."""
        d = self.determinant
        b11, b12, b21, b22 = self.a22 / d, -self.a12 / d, -self.a21 / d, self.a11 / d
        return Affine(
            b11,
            b12,
            b21,
            b22,
            -(b11 * self.dx + b12 * self.dy),
            -(b21 * self.dx + b22 * self.dy),
        )

    def binned(self, factor: float) -> Affine:
        """The same map of images whose pixels are so many times larger, before and after."""
        return Affine(self.a11, self.a12, self.a21, self.a22, self.dx / factor, self.dy / factor)

    @property
    def axis_deg(self) -> float:
        """Angle of the input's axis that becomes vertical, degrees; the inverse of `turn_axis`."""
        return math.degrees(math.atan2(self.a12 - self.a21, self.a11 + self.a22))

    @property
    def is_identity(self) -> bool:
        """True if it leaves every pixel where it is."""
        return self == Affine()
