"""The pixels of a recorded image that lie within the part of the aligned one that is stored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.views.affine import Affine

__all__ = ["KeptPart"]

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class KeptPart:
    """A part of an aligned image, and how pixels of the recorded one come there.

    Attributes
    ----------
    affine
        Map from the binned image to the aligned one.
    before, after
        Rows and columns of both.
    y, u
        Rows and columns that are kept of the aligned image.
    bin
        Pixels of the recorded image along an edge of a pixel of the binned one.
    """

    affine: Affine
    before: tuple[int, int]
    after: tuple[int, int]
    y: range
    u: range
    bin: int = 1

    def contains(self, rows: Integers, columns: Integers) -> NDArray[np.bool_]:
        """Return which pixels of the recorded image have their middle in a kept pixel.

        Parameters
        ----------
        rows, columns
            Indices of the pixels, equally many.
        """
        a, (high, wide), (tall, broad) = self.affine, self.before, self.after
        row, column = rows // self.bin, columns // self.bin
        y, x = row - (high - 1) / 2, column - (wide - 1) / 2
        u = a.a11 * x + a.a12 * y + a.dx + (broad - 1) / 2
        v = a.a21 * x + a.a22 * y + a.dy + (tall - 1) / 2
        inside = (row < high) & (column < wide)
        inside &= (v >= self.y.start - 0.5) & (v < self.y.stop - 0.5)
        return np.asarray(inside & (u >= self.u.start - 0.5) & (u < self.u.stop - 0.5))
