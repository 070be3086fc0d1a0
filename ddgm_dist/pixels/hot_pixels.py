"""Hot and dead pixels: single ones, and clusters of up to three by three, that no specimen makes.

A pixel stands out by how far it lies beyond *all* of these, on the same side:

- the median of the 7 pixels around it in its detector row, so steps along u are kept;
- the median of the 7 pixels around it in its detector column, so lines along y are kept;
- the tenth most extreme of the 7 x 7 pixels around it. It must lie beyond that one at least twice as
  far as that one lies beyond their median. A bead of five pixels and more has more than nine bright
  ones, so neither its middle nor its caps stand out.

At the detector's ends the windows are moved inwards. Of fewer than 7 rows all are taken; with fewer
than 4 the detector column is not used, and a small bead may stand out. So whether a pixel stands out
depends on its own view, within `MARGIN` rows and columns, and on nothing else.

One threshold holds for the whole series (`HotThreshold`). It is the larger of three robust standard
deviations of the projections, and four times what 99.5 % of the pixels stand out by. The first spares
a specimen's sharp edges, the second noise with long tails (few counts).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MARGIN",
    "HotThreshold",
    "Pixels",
    "find_hot",
    "may_be_hot",
    "prominence",
    "stands_out_in_its_row",
    "surroundings",
]

_WINDOW = 7
# A cluster is at most so high and so wide.
_CLUSTER = 3
# Windows are centred, or moved inwards by as much again.
MARGIN = _WINDOW - 1
_SPREADS, _TAILS = 3.0, 4.0
_STEEP = 2.0
# Quantiles that leave 1 % of the pixels on each side; so many standard deviations apart, if normal.
_QUANTILES, _WIDTH = (0.01, 0.99), 4.652695748
# Share of the pixels that stand out as the specimen and its noise do.
_MOST = 0.995
# Pixels of a view, and of all views, that the threshold is estimated from; pixels whose windows are
# sorted at a time.
_PROBES, _LEAST_PROBES, _ALL_PROBES = 2048, 256, 2**16
_BATCH = 2**16

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]
# Tilts, rows and columns of some pixels of a block.
Pixels = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def find_hot(block: Floats, threshold: float, among: Pixels | None = None) -> Pixels:
    """Pixels of a block that stand out by more than a threshold.

    Parameters
    ----------
    block
        ``(tilt, rows, columns)``; pixels that are not finite are passed over.
    threshold
        Threshold in the unit of the block.
    among
        Result of `may_be_hot` for the block, if it was called.

    Returns
    -------
    tilt, row, column
        Indices, in the order of the array. Those nearer than `MARGIN` to where the block is
        cut out of a larger one may differ from what the larger one would give.
    """
    found = [_none()]
    parts = _may_be_hot(block, threshold) if among is None else iter([among])
    for part in parts:
        for start in range(0, len(part[0]), _BATCH):
            at = _chosen(part, slice(start, start + _BATCH))
            # The narrow windows first: few pixels are left for the square ones.
            at = stands_out_in_its_row(block, threshold, at)
            at = _chosen(at, prominence(block, at) > threshold)
            _, steep = _around(block, at)
            found.append(_chosen(at, _outside(block, at, *steep) > 0))
    return _joined(found)


def stands_out_in_its_row(block: Floats, threshold: float, at: Pixels) -> Pixels:
    """Those of some pixels that lie farther than a threshold from the median along their row."""
    found = [_none()]
    for start in range(0, len(at[0]), _BATCH):
        some = _chosen(at, slice(start, start + _BATCH))
        found.append(_chosen(some, _outside(block, some, *_along_row(block, some)) > threshold))
    return _joined(found)


def may_be_hot(block: Floats, threshold: float) -> Pixels:
    """A quick choice that holds all of `find_hot`, also where the block is cut out of a larger one.

    At least four of the six other pixels of a hot one's window lie farther away than the threshold.
    So one of the next three does, on either side; at the detector's ends, on the inner side.
    """
    return _joined([_none(), *_may_be_hot(block, threshold)])


def _may_be_hot(block: Floats, threshold: float) -> Iterator[Pixels]:
    """View by view."""
    tilts, rows, columns = block.shape
    if columns < _WINDOW:
        view, row, column = (index.ravel() for index in np.indices(block.shape))
        yield view, row, column
        return
    for tilt in range(tilts):
        low = high = block[tilt]
        for step in (1, 2):  # windows of four: two of two, which are two of one
            low = np.minimum(low[:, :-step], low[:, step:])
            high = np.maximum(high[:, :-step], high[:, step:])
        with np.errstate(invalid="ignore", over="ignore"):
            # A hair less, as the difference is rounded; and NaN is not less than anything.
            uneven = ~(high - low < 0.999 * threshold)
        if uneven.any():
            ends = np.zeros((rows, columns), dtype=bool)
            ends[:, :-_CLUSTER] |= uneven
            ends[:, _CLUSTER:] |= uneven
            ends &= np.isfinite(block[tilt])
            row, column = np.nonzero(ends)
            yield np.full_like(row, tilt), row, column


def prominence(block: Floats, at: Pixels) -> Wide:
    """Excess of a block's pixels over their neighbours, in its unit; 0 for none or if not finite."""
    found = [np.empty(0)]
    for start in range(0, len(at[0]), _BATCH):
        some = _chosen(at, slice(start, start + _BATCH))
        windows = [_along_row(block, some), _around(block, some)[0]]
        if block.shape[1] > _CLUSTER:
            windows.append(_along_column(block, some))
        low, high = (np.array(bounds) for bounds in zip(*windows, strict=True))
        found.append(_outside(block, some, low.min(axis=0), high.max(axis=0)))
    return np.concatenate(found)


class HotThreshold:
    """Finds out how far a pixel must stand out to be hot, from parts of the series.

    Medians over the views count, so neither some views matter nor half a percent of the pixels of each.

    Parameters
    ----------
    parts
        Number of parts to come.
    tilts
        Number of tilts; those of the first part when None.
    """

    def __init__(self, parts: int, tilts: int | None = None) -> None:
        self._parts, self._tilts = max(1, parts), tilts
        self._values: list[list[Floats]] = []
        self._far: list[list[Wide]] = []

    def add(self, part: Floats, first: int = 0) -> None:
        """One part, ``(tilt, rows, columns)``, of all tilts, or of some from ``first`` on."""
        tilts = len(part) if self._tilts is None else self._tilts
        if not self._values:
            self._values = [[] for _ in range(tilts)]
            self._far = [[] for _ in range(tilts)]
        view_probes = min(_PROBES, max(_LEAST_PROBES, _ALL_PROBES // tilts))
        each = max(16, view_probes // self._parts)
        for tilt, view in enumerate((part[k : k + 1] for k in range(len(part))), first):
            chosen = np.unique(np.linspace(0, view.size - 1, each).astype(np.int64))
            chosen = chosen[np.isfinite(view.ravel()[chosen])]
            _, row, column = np.unravel_index(chosen, view.shape)
            at = (np.zeros_like(chosen), row.astype(np.int64), column.astype(np.int64))
            self._values[tilt].append(view[at])
            self._far[tilt].append(prominence(view, at))

    @property
    def probes(self) -> list[Floats]:
        """Pixels of each view, from everywhere."""
        return [np.concatenate(values) for values in self._values]

    def value(self) -> float | None:
        """The threshold, in the unit of the pixels; None where no view has contrast."""
        spreads, tails = list[float](), list[float]()
        for probes, far in zip(self.probes, self._far, strict=True):
            if probes.size and np.ptp(probes) > 0:
                low, high = np.quantile(probes.astype(np.float64), _QUANTILES)
                spreads.append(float(high - low) / _WIDTH)
                tails.append(float(np.quantile(np.concatenate(far), _MOST)))
        if not spreads:
            return None
        found = max(_SPREADS * float(np.median(spreads)), _TAILS * float(np.median(tails)))
        return found if found > 0 else None


def surroundings(start: int, stop: int, extent: int) -> slice:
    """The part of an axis that decides which pixels in ``[start, stop)`` are hot."""
    reach = _WINDOW // 2
    first = max(0, min(start - reach, extent - _WINDOW))
    return slice(first, min(extent, max(stop + reach, _WINDOW)))


def _none() -> Pixels:
    return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)


def _joined(parts: list[Pixels]) -> Pixels:
    view, row, column = (np.concatenate(indices) for indices in zip(*parts, strict=True))
    return view, row, column


def _chosen(at: Pixels, keep: NDArray[np.bool_] | slice) -> Pixels:
    return at[0][keep], at[1][keep], at[2][keep]


def _outside(block: Floats, at: Pixels, low: Wide, high: Wide) -> Wide:
    """Distance of pixels below ``low`` or above ``high``, which are given for each."""
    value = block[at].astype(np.float64)
    value[~np.isfinite(value)] = np.nan
    return np.nan_to_num(np.fmax(low - value, value - high), nan=0.0, posinf=0.0).clip(min=0)


def _along_row(block: Floats, at: Pixels) -> tuple[Wide, Wide]:
    column = _window(at[2], block.shape[2])
    middle = _median(*_ordered(block[at[0][:, None], at[1][:, None], column]))
    return middle, middle


def _along_column(block: Floats, at: Pixels) -> tuple[Wide, Wide]:
    row = _window(at[1], block.shape[1])
    middle = _median(*_ordered(block[at[0][:, None], row, at[2][:, None]]))
    return middle, middle


def _around(block: Floats, at: Pixels) -> tuple[tuple[Wide, Wide], tuple[Wide, Wide]]:
    """The tenth most extreme on either side; and beyond what nothing but a hot pixel lies."""
    row, column = (_window(at[k], block.shape[k]) for k in (1, 2))
    around = block[at[0][:, None, None], row[:, :, None], column[:, None, :]]
    around = around.reshape(len(around), row.shape[1] * column.shape[1])
    ordered, count = _ordered(around)
    low, high = _ranked(ordered, count, _CLUSTER * min(_CLUSTER, row.shape[1]))
    middle = _median(ordered, count)
    return (low, high), (low - _STEEP * (middle - low), high + _STEEP * (high - middle))


def _window(position: NDArray[np.int64], extent: int) -> NDArray[np.int64]:
    """Positions around each, ``(n, 7)``, or as many as there are; moved inwards at the ends."""
    width = min(_WINDOW, extent)
    first = np.clip(position - width // 2, 0, extent - width)
    return first[:, None] + np.arange(width)


def _ordered(values: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Each line in order, with what is not finite at its end; how many are finite."""
    ordered = np.sort(np.where(np.isfinite(values), values, np.nan), axis=1)
    return ordered, np.isfinite(ordered).sum(axis=1)


def _median(ordered: Floats, count: NDArray[np.int64]) -> Wide:
    low, high = _ranked(ordered, count, ordered.shape[1])
    return (low + high) / 2


def _ranked(ordered: Floats, count: NDArray[np.int64], extremes: int) -> tuple[Wide, Wide]:
    """The lowest and highest value of each line but for so many; the middle ones if too many."""
    last = np.maximum(count - 1, 0)
    below = np.minimum(last // 2, extremes)
    above = np.maximum((last + 1) // 2, last - extremes)
    line = np.arange(len(ordered))
    return ordered[line, below].astype(np.float64), ordered[line, above].astype(np.float64)
