"""Pixels that stand out from their surroundings, collected block by block."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.pixels.hot_pixels import (
    MARGIN,
    Pixels,
    find_hot,
    may_be_hot,
    stands_out_in_its_row,
    surroundings,
)

__all__ = ["HotScan", "Reader"]

Floats = NDArray[np.float32]
Reader = Callable[[slice, slice, slice], Floats]
# Pixels that stand out at most: one in so many, but not fewer or more than these.
_HOT_SHARE, _LEAST_MOST_HOT, _MOST_HOT = 100, 1000, 2**22
# Pixels at the ends of a block that are judged together: their indices take 24 bytes each.
_MOST_NEAR = 2**20
_NO_HOT = np.empty(0, np.int64)


class HotScan:
    """Collects the pixels of a series that stand out, until they are more than faults could be.

    It can be pickled, without ``read``.

    Parameters
    ----------
    shape
        ``(tilt, y, u)`` of the series.
    threshold
        Distance by which a hot pixel stands out; without it none is searched for.
    read
        Reads rows, columns and tilts of the series, ``(tilt, rows, columns)``: for pixels at the ends of
        blocks. Without it these are judged by what their block holds.

    Attributes
    ----------
    count
        Number of pixels that stand out.
    crowded
        Whether more pixels stand out than faults could.
    """

    def __init__(
        self, shape: tuple[int, int, int], threshold: float | None, read: Reader | None = None
    ) -> None:
        self.shape, self.threshold, self._read = shape, threshold, read
        self._hot, self.count = list[NDArray[np.int64]](), 0
        self._most = min(_MOST_HOT, max(_LEAST_MOST_HOT, math.prod(shape) // _HOT_SHARE))

    @property
    def crowded(self) -> bool:
        """See the attribute."""
        return self.count > self._most

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_read": None}

    def indices(self) -> NDArray[np.int64]:
        """Indices of the pixels that stand out in the flattened series, in no order."""
        return np.concatenate([_NO_HOT, *self._hot])

    def merge(self, count: int, hot: NDArray[np.int64]) -> None:
        """Take over so many pixels, by their indices, unless there are too many already."""
        if not self.crowded:
            self.count += count
            self._hot.append(hot)

    def add(self, origin: tuple[int, int, int], block: Floats) -> None:
        """Scan a block ``(tilt, rows, columns)`` that begins at ``(tilt, y, u)``."""
        if self.threshold is None:
            return
        (t0, y0, u0), threshold = origin, self.threshold
        near, waiting = list[Pixels](), 0
        for tilt in range(len(block)):
            if self.crowded:
                return
            # View by view: where much varies, those that may be hot are more than the pixels.
            view = block[tilt : tilt + 1]
            at = may_be_hot(view, threshold)
            cut = self._is_cut(origin, block, at)
            inner = tuple(index[~cut] for index in at)
            _, row, column = find_hot(view, threshold, (inner[0], inner[1], inner[2]))
            self._keep(np.full(len(row), t0 + tilt), row + y0, column + u0)
            if cut.any():
                near.append((np.full(int(cut.sum()), tilt), at[1][cut], at[2][cut]))
                waiting += len(near[-1][0])
            if waiting > _MOST_NEAR:
                self._add_near(origin, block, near)
                near, waiting = [], 0
        if near:
            self._add_near(origin, block, near)

    def _is_cut(self, origin: tuple[int, int, int], block: Floats, at: Pixels) -> NDArray[np.bool_]:
        """Pixels that something beyond the block decides on."""
        cut = np.zeros(len(at[0]), dtype=bool)
        if self._read is not None:
            for axis in (1, 2):
                start, size = origin[axis], block.shape[axis]
                cut |= (at[axis] < MARGIN) & (start > 0)
                cut |= (at[axis] >= size - MARGIN) & (start + size < self.shape[axis])
        return cut

    def _add_near(self, origin: tuple[int, int, int], block: Floats, near: list[Pixels]) -> None:
        """Judge pixels at a block's ends; only strips there are read again."""
        assert self._read is not None, "where nothing is read nothing is cut"
        assert self.threshold is not None, "or none may be hot"
        (t0, y0, u0), (_, height, field) = origin, self.shape
        columns = block.shape[2]
        tilt, row, column = (np.concatenate(indices) for indices in zip(*near, strict=True))
        left = (column < MARGIN) & (u0 > 0)
        right = ~left & (column >= columns - MARGIN) & (u0 + columns < field)
        # Those whose whole row is at hand are few when that has been asked.
        between = ~(left | right)
        some = stands_out_in_its_row(
            block, self.threshold, (tilt[between], row[between], column[between])
        )
        top = (some[1] < MARGIN) & (y0 > 0)
        for at in (
            (tilt[left], row[left], column[left]),
            (tilt[right], row[right], column[right]),
            (some[0][top], some[1][top], some[2][top]),
            (some[0][~top], some[1][~top], some[2][~top]),
        ):
            if not len(at[0]):
                continue
            (t, y, u), (t_end, y_end, u_end) = (
                [int(f(index)) for index in at] for f in (np.min, np.max)
            )
            around_y = surroundings(y0 + y, y0 + y_end + 1, height)
            around_u = surroundings(u0 + u, u0 + u_end + 1, field)
            wide = self._read(around_y, around_u, slice(t0 + t, t0 + t_end + 1))
            found_t, found_y, found_u = find_hot(wide, self.threshold)
            found_t, found_y = found_t + t, found_y + around_y.start - y0
            found_u = found_u + around_u.start - u0
            inside = (found_y >= y) & (found_y <= y_end) & (found_u >= u) & (found_u <= u_end)
            self._keep(found_t[inside] + t0, found_y[inside] + y0, found_u[inside] + u0)

    def _keep(self, *at: NDArray[np.int64]) -> None:
        flat = np.ravel_multi_index((at[0], at[1], at[2]), self.shape).astype(np.int64)
        self.count += len(flat)
        self._hot.append(flat)
