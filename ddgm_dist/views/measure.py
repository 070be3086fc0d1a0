"""Statistics of one view, from one pass over its pixels, band of rows by band of rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.errors import InputError
from ddgm_dist.views.despike import MARGIN, find_hot_pixels
from ddgm_dist.views.hot_threshold import STRIP_ROWS, STRIPS, estimate_threshold
from ddgm_dist.views.statistics import QUANTILES, THUMBNAIL, ViewStatistics

__all__ = ["Read", "Used", "measure_view"]

# Pixels that are read at a time, and that are worked on at a time.
_BAND, _PART = 2**24, 2**20
# Pixels that quantiles are computed from.
_SAMPLE = 2**16
# Golden section: rows of the sample begin at columns that never line up with a detector's pattern.
_GOLDEN = 0.6180339887498949
# A view in which more pixels stand out has no hot pixels; it is what the data are.
_CROWDED = 0.01

Floats = NDArray[np.float32]
Read = Callable[[slice, slice], Floats]
Used = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]


def measure_view(
    read: Read,
    shape: tuple[int, int],
    *,
    despike: bool = True,
    dark: float | Floats = 0.0,
    used: Used | None = None,
) -> ViewStatistics:
    """Measure one view.

    At most 16 M pixels of the view (and some rows more) are held at a time. A view of at most that size
    is read once. Larger ones are sampled in four strips of rows first, then read from top to bottom.

    Parameters
    ----------
    read
        Reads some rows and columns as float32, ``(rows, columns)``. Pixels may be NaN or infinite.
    shape
        Rows and columns of the view.
    despike
        Whether hot pixels are searched for.
    dark
        Value without a beam, or one for each pixel; pixels that are not above it have no count. Where it
        is NaN, nothing is said of them.
    used
        Returns of rows and columns of pixels which of them are used; all when None. Others are no
        pixels without a count.

    Returns
    -------
    ViewStatistics
        The same for the same pixels, to the bit.

    Raises
    ------
    InputError
        If the view has no pixels, or what was read is not of the shape that was asked for.
    """
    height, width = shape
    if min(shape) < 1:
        raise InputError("shape", shape, "must be at least one row and one column")
    if height * width <= _BAND:
        whole = _checked(read, slice(0, height), width)

        def rows_of(rows: slice) -> Floats:
            return whole[rows]
    else:

        def rows_of(rows: slice) -> Floats:
            return _checked(read, rows, width)

    threshold = None
    if despike:
        threshold = estimate_threshold([rows_of(rows) for rows in _strips(height)])
    found = _Pass(shape, threshold, dark, used)
    reach = MARGIN if threshold is not None else 0
    for band in _runs(0, height, found.block, max(1, _BAND // width)):
        first, stop = max(0, band.start - reach), min(height, band.stop + reach)
        pixels = rows_of(slice(first, stop))
        for part in _runs(band.start, band.stop, found.block, max(1, _PART // width)):
            around = slice(max(first, part.start - reach), min(stop, part.stop + reach))
            found.add(part, pixels[around.start - first : around.stop - first], around.start)
    return found.result()


def _checked(read: Read, rows: slice, width: int) -> Floats:
    got = np.ascontiguousarray(read(rows, slice(0, width)), dtype=np.float32)
    expected = (rows.stop - rows.start, width)
    if got.shape != expected:
        raise InputError(
            "view", got.shape, f"does not have the shape {expected} that was asked for"
        )
    return got


def _strips(height: int) -> list[slice]:
    count = max(1, min(STRIPS, height // STRIP_ROWS))
    found = list[slice]()
    for k in range(count):
        middle = int((k + 0.5) / count * height)
        first = max(0, min(middle - STRIP_ROWS // 2, height - STRIP_ROWS))
        found.append(slice(first, min(height, first + STRIP_ROWS)))
    return found


def _runs(start: int, stop: int, multiple: int, most: int) -> Iterator[slice]:
    """Cut rows into runs of at most so many, which begin at multiples if they can."""
    step = max(1, most // multiple) * multiple
    for first in range(start, stop, step):
        yield slice(first, min(stop, first + step))


class _Pass:
    """One pass over a view's rows, from top to bottom in parts that begin at multiples of ``block``."""

    def __init__(
        self,
        shape: tuple[int, int],
        threshold: float | None,
        dark: float | Floats,
        used: Used | None,
    ) -> None:
        self._dark, self._used = dark, used
        height, width = shape
        self._shape, self._threshold = shape, threshold
        self.block = max(1, math.ceil(max(shape) / THUMBNAIL))
        small = max(1, height // self.block), max(1, width // self.block)
        self._sums, self._counts = np.zeros(small), np.zeros(small)
        self._digest = hashlib.sha256()
        self._count, self._mean, self._squares = 0, 0.0, 0.0
        self._low, self._high, self._at_high = math.inf, -math.inf, 0
        self._zeros = self._hot_zeros = self._nonfinite = self._hot = 0
        self._sample = list[Floats]()
        # About as many rows as columns of the sample, spread evenly.
        self._every = max(1, math.isqrt(height * width // _SAMPLE))

    def add(self, rows: slice, around: Floats, first: int) -> None:
        """Take in some rows; ``around`` has them from row ``first`` on, with the margin."""
        inner = slice(rows.start - first, rows.stop - first)
        part = around[inner]
        self._digest.update(np.ascontiguousarray(part, dtype="<f4").tobytes())
        good = np.isfinite(part)
        finite = int(good.sum())
        self._nonfinite += part.size - finite
        self._levels(part if finite == part.size else part[good])
        self._add_sample(rows.start, part)
        empty = self._empty(rows, part, good)
        if self._threshold is not None:
            row, column = find_hot_pixels(around, self._threshold)
            wanted = (row >= inner.start) & (row < inner.stop)
            good[row[wanted] - inner.start, column[wanted]] = False
            self._hot += int(wanted.sum())
            self._hot_zeros += int((empty & ~good).sum())
        self._zeros += int(empty.sum())
        self._add_thumbnail(rows.start, part, good)

    def _levels(self, values: Floats) -> None:
        if not values.size:
            return
        wide = values.astype(np.float64)
        mean = float(wide.mean())
        squares = float(np.square(wide - mean).sum())
        count, apart = values.size, mean - self._mean
        # Pairwise update of mean and sum of squares (Chan, Golub, LeVeque 1983).
        total = self._count + count
        self._squares += squares + apart**2 * self._count * count / total
        self._mean += apart * count / total
        self._count = total
        high = float(values.max())
        if high > self._high:
            self._high, self._at_high = high, 0
        if high == self._high:
            self._at_high += int((values == np.float32(high)).sum())
        self._low = min(self._low, float(values.min()))

    def _empty(self, rows: slice, part: Floats, good: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Flags of the pixels of some rows that are used and have no count."""
        dark = self._dark[rows] if isinstance(self._dark, np.ndarray) else self._dark
        empty = good & (part <= dark)
        if self._used is not None and empty.any():
            row, column = np.nonzero(empty)
            empty[row, column] = self._used(row + rows.start, column)
        return np.asarray(empty)

    def _add_sample(self, start: int, part: Floats) -> None:
        every = self._every
        for row in range(-(-start // every) * every, start + len(part), every):
            offset = int(every * (row // every * _GOLDEN % 1))
            line = part[row - start, offset::every]
            self._sample.append(line[np.isfinite(line)])

    def _add_thumbnail(self, start: int, part: Floats, good: NDArray[np.bool_]) -> None:
        block, (rows, columns) = self.block, self._sums.shape
        first = start // block
        # Whole blocks only, but of a view that is narrower than one, what there is.
        high = len(part) // block if self._shape[0] >= block else 1
        count = min(rows - first, high)
        if count <= 0:
            return
        height, width = (
            min(n * block, m) for n, m in ((count, len(part)), (columns, part.shape[1]))
        )
        some = good[:height, :width]
        values = np.where(some, part[:height, :width], 0).astype(np.float64)
        for sums, summed in ((self._sums, values), (self._counts, some)):
            down = np.add.reduceat(summed.astype(np.float64), np.arange(count) * block, axis=0)
            sums[first : first + count] += np.add.reduceat(down, np.arange(columns) * block, axis=1)

    def result(self) -> ViewStatistics:
        """The statistics, after all rows."""
        crowded = self._hot > max(16, _CROWDED * math.prod(self._shape))
        with np.errstate(invalid="ignore"):
            thumbnail = (self._sums / self._counts).astype(np.float32)
        sample = np.concatenate(self._sample) if self._sample else np.empty(0, np.float32)
        there = self._count > 0
        quantiles = np.full(len(QUANTILES), math.nan)
        if sample.size:
            quantiles = np.quantile(sample.astype(np.float64), QUANTILES)
        return ViewStatistics(
            digest=self._digest.hexdigest(),
            low=self._low if there else math.nan,
            high=self._high if there else math.nan,
            mean=self._mean if there else math.nan,
            std=math.sqrt(self._squares / self._count) if there else math.nan,
            quantiles=tuple(float(q) for q in quantiles),
            nonfinite=self._nonfinite,
            # Hot pixels are imputed, unless they are so many that they are none.
            zeros=self._zeros - (0 if crowded else self._hot_zeros),
            at_high=self._at_high / self._count if there else 0.0,
            threshold=None if crowded else self._threshold,
            hot=0 if crowded else self._hot,
            thumbnail=thumbnail,
            block=self.block,
            crowded=crowded,
        )
