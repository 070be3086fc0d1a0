"""Rows and columns of a view that hold one value throughout, from one pass over its rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["ConstantLines"]

# Pixels of a line that are compared first: few lines that are not constant agree in all of them.
_FIRST, _SECOND = 8, 64


class ConstantLines:
    """Lines of one value of a view whose rows come from top to bottom.

    Lines with a pixel that is not finite are none.

    Attributes
    ----------
    rows
        One flag for each row.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        height, self._width = shape
        self.rows = np.zeros(height, dtype=bool)
        self._left: NDArray[np.int64] | None = None
        self._values = np.empty(0, np.float32)

    @property
    def columns(self) -> NDArray[np.bool_]:
        """One flag for each column, after all rows."""
        found = np.zeros(self._width, dtype=bool)
        if self._left is not None:
            found[self._left] = True
        return found

    def add(self, first: int, part: NDArray[np.float32]) -> None:
        """Take in some rows, from row ``first`` on."""
        self._add_columns(part)
        some = part[:, :_FIRST]
        alike = np.flatnonzero((some == some[:, :1]).all(axis=1) & np.isfinite(some[:, 0]))
        whole = part[alike]
        self.rows[first + alike[(whole == whole[:, :1]).all(axis=1)]] = True

    def _add_columns(self, part: NDArray[np.float32]) -> None:
        if self._left is None:
            self._left = np.flatnonzero(np.isfinite(part[0]))
            self._values = part[0, self._left]
        for rows in (slice(0, _FIRST), slice(_FIRST, _SECOND), slice(_SECOND, None)):
            if not len(self._left):
                return
            block = part[rows]
            if len(self._left) < self._width:
                block = block[:, self._left]
            same = (block == self._values).all(axis=0)
            self._left, self._values = self._left[same], self._values[same]
