"""Masks for pixels of a tilt series that count as unmeasured although they are numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.pixels.hot_pixels import find_hot, surroundings

__all__ = ["Patch", "Screen"]

# Tilts, rows and columns of a box of pixels: first and stop of each.
Patch = tuple[int, int, int, int, int, int]


@dataclass(frozen=True)
class Screen:
    """The mask: a rule that each pixel's surroundings decide, and patches.

    Attributes
    ----------
    hot
        How far a pixel stands out that is hot (:mod:`ddgm_dist.pixels.hot_pixels`), in the data's unit;
        None where none is.
    patches
        Boxes of pixels ``(tilt, tilt, row, row, column, column)`` in which nothing was recorded.
    spared
        First and stop of detector rows in which no pixel counts as hot.
    """

    hot: float | None = None
    patches: tuple[Patch, ...] = ()
    spared: tuple[tuple[int, int], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; spared rows are said where there are some."""
        said = asdict(self)
        if not self.spared:
            del said["spared"]
        return said

    def around(self, start: int, stop: int, extent: int) -> slice:
        """Rows or columns that must be read to screen those in ``[start, stop)``."""
        return slice(start, stop) if self.hot is None else surroundings(start, stop, extent)

    def good(self, raw: NDArray[np.float32], row: int, first: Sequence[int]) -> NDArray[np.bool_]:
        """The pixels that are not masked.

        Parameters
        ----------
        raw
            ``(tilt, rows, columns)``, a part of the series.
        row, first
            Detector row that it begins with; its first column of each tilt.
        """
        good = np.ones(raw.shape, dtype=bool)
        if self.hot is not None:
            tilt, line, column = find_hot(raw, self.hot)
            masked = np.ones(raw.shape[1], dtype=bool)
            for y0, y1 in self.spared:
                masked[max(y0 - row, 0) : max(y1 - row, 0)] = False
            chosen = masked[line]
            good[tilt[chosen], line[chosen], column[chosen]] = False
        for t0, t1, y0, y1, u0, u1 in self.patches:
            rows = slice(max(y0 - row, 0), max(y1 - row, 0))
            for view in range(t0, t1):
                a, b = (max(u - first[view], 0) for u in (u0, u1))
                good[view, rows, a:b] = False
        return good
