"""NaN and infinite pixels: how many there are, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BadPixels", "Origin", "find_bad"]

Origin = tuple[int, int, int]


@dataclass(frozen=True)
class BadPixels:
    """NaN and infinite pixels of a tilt series.

    Attributes
    ----------
    count
        How many there are.
    first
        Coordinates ``(tilt, y, u)`` of the first few, in the order of the rows.
    """

    count: int
    first: tuple[tuple[int, int, int], ...] = ()

    def describe(self) -> str:
        """The count and the first coordinates, as a clause."""
        if not self.count:
            return "no NaN or infinite pixels"
        where = ", ".join(str(c) for c in self.first)
        more = ", ..." if self.count > len(self.first) else ""
        return f"{self.count} NaN or infinite pixels, first at (tilt, y, u) = {where}{more}"


def find_bad(parts: Iterable[tuple[Origin, NDArray[np.float32]]], *, show: int = 3) -> BadPixels:
    """Count the NaN and infinite pixels of blocks ``(tilt, rows, columns)``.

    Parameters
    ----------
    parts
        Where each block begins, ``(tilt, y, u)``, and its pixels; in any order.
    show
        How many to tell the coordinates of.
    """
    count, first = 0, list[tuple[int, int, int]]()
    for (t0, y0, u0), block in parts:
        bad = ~np.isfinite(block)
        here = int(np.count_nonzero(bad))
        count += here
        found = list[tuple[int, int, int]]()
        for row in range(block.shape[1] if here else 0):
            tilt, column = np.nonzero(bad[:, row])
            found += [
                (y0 + row, t0 + int(t), u0 + int(u))
                for t, u in zip(tilt[:show], column[:show], strict=True)
            ]
            if len(found) >= show:
                break
        first = sorted(first + found)[:show]
    return BadPixels(count, tuple((t, y, u) for y, t, u in first))
