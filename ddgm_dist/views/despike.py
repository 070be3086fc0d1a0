"""Hot and dead pixels of one view: found, and imputed by the median of their good neighbours.

A pixel is hot if two things hold. It stands out by more than a threshold, as
:mod:`ddgm_dist.pixels.hot_pixels` defines it. And it stands out of the noise around it: it lies beyond
the median of the 7 x 7 pixels at least `STEEP` times as far as their tenth most extreme on that side.
The tenth most extreme of 49 normal values lies 0.8 standard deviations out. So in white noise a hot
pixel is at least 5 of them out, however noisy that part of the view is.

A hot pixel becomes the median of the 5 x 5 pixels around it that are finite and not hot. Where there is
none, 7 x 7 pixels are taken. So each pixel of the result depends on `MARGIN` rows and columns around.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.pixels.hot_pixels import find_hot

__all__ = ["MARGIN", "STEEP", "despike", "find_hot_pixels"]

# Three for the window that decides on a hot pixel, and three for the neighbours that replace it.
MARGIN = 6
STEEP = 6.0
# Half the widths of the windows of good neighbours, and of the window that shows the noise.
_NEAR, _FAR = 2, 3
# As in pixels.hot_pixels: a cluster has up to nine pixels, and the tenth shows the noise.
_CLUSTER, _WINDOW = 9, 7
# Pixels searched at a time, and hot pixels whose windows are sorted at a time.
_PART, _BATCH = 2**20, 2**15

Floats = NDArray[np.float32]
Places = tuple[NDArray[np.int64], NDArray[np.int64]]


def despike(
    block: Floats, threshold: float, inside: tuple[slice, slice] | None = None
) -> tuple[Floats, int]:
    """Impute the hot pixels of a part of a view.

    Any cut of a view into boxes gives the same result, if each is read with `MARGIN` rows and columns
    more on every side, or as many as the view has.

    Parameters
    ----------
    block
        ``(rows, columns)`` of the view, with the margin; it is not changed.
    threshold
        Distance by which a hot pixel stands out, in the unit of the block.
    inside
        Rows and columns of the block that are wanted, that is without the margin; all if None.

    Returns
    -------
    imputed
        Float32, the wanted part. Pixels that are not finite are NaN, and so is a hot pixel that has
        no good neighbour.
    count
        Hot pixels in the wanted part.
    """
    rows, columns = inside if inside is not None else (slice(None), slice(None))
    row, column = find_hot_pixels(block, threshold)
    good = np.isfinite(block)
    whole = bool(good.all())
    good[row, column] = False
    out = block.astype(np.float32)
    if not whole:
        out[~good] = np.nan
    for start in range(0, len(row), _BATCH):
        at = row[start : start + _BATCH], column[start : start + _BATCH]
        out[at] = _from_neighbours(block, good, at)
    hot = np.zeros(block.shape, dtype=bool)
    hot[row, column] = True
    return out[rows, columns], int(hot[rows, columns].sum())


def find_hot_pixels(block: Floats, threshold: float) -> Places:
    """Rows and columns of the hot pixels of a part of a view, in the order of the array.

    Parameters
    ----------
    block
        ``(rows, columns)``; pixels that are not finite are passed over.
    threshold
        Distance by which a hot pixel stands out, in the unit of the block.

    Returns
    -------
    row, column
        Indices. Those nearer than `MARGIN` to where the block is cut out of the view may differ
        from those of the whole view.
    """
    height, width = block.shape
    step = max(8 * MARGIN, _PART // max(width, 1))
    found = list[Places]()
    for start in range(0, height, step):
        first, stop = max(0, start - MARGIN), min(height, start + step + MARGIN)
        _, row, column = find_hot(block[None, first:stop], threshold)
        row += first
        wanted = (row >= start) & (row < start + step)
        row, column = row[wanted], column[wanted]
        steep = _is_steep(block, (row, column))
        found.append((row[steep], column[steep]))
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate([row for row, _ in found]), np.concatenate([col for _, col in found])


def _is_steep(block: Floats, at: Places) -> NDArray[np.bool_]:
    """True for pixels that stand out of the noise around them."""
    steep = np.zeros(len(at[0]), dtype=bool)
    for start in range(0, len(at[0]), _BATCH):
        row, column = (index[start : start + _BATCH] for index in at)
        ordered, count = _ordered(_window(block, row, column))
        line, last = np.arange(len(ordered)), np.maximum(count - 1, 0)
        middle = (ordered[line, last // 2] + ordered[line, (last + 1) // 2]) / 2
        low = ordered[line, np.minimum(last // 2, _CLUSTER)]
        high = ordered[line, np.maximum((last + 1) // 2, last - _CLUSTER)]
        excess = block[row, column].astype(np.float64) - middle
        noise = np.where(excess > 0, high - middle, middle - low)
        steep[start : start + _BATCH] = np.abs(excess) > STEEP * noise
    return steep


def _window(
    block: Floats, row: NDArray[np.int64], column: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Pixels around each, ``(n, 49)``; moved inwards at the block's ends, fewer where it is small."""
    axes = list[NDArray[np.int64]]()
    for position, extent in zip((row, column), block.shape, strict=True):
        width = min(_WINDOW, extent)
        first = np.clip(position - width // 2, 0, extent - width)
        axes.append(first[:, None] + np.arange(width))
    values = block[axes[0][:, :, None], axes[1][:, None, :]]
    return values.reshape(len(row), axes[0].shape[1] * axes[1].shape[1]).astype(np.float64)


def _ordered(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Each line in order, with what is not finite at its end; and how many are finite."""
    ordered = np.sort(np.where(np.isfinite(values), values, np.nan), axis=1)
    return ordered, np.isfinite(ordered).sum(axis=1)


def _from_neighbours(block: Floats, good: NDArray[np.bool_], at: Places) -> Floats:
    """Median of the good pixels around each place; NaN where there is none."""
    found = np.full(len(at[0]), np.nan, dtype=np.float32)
    left = np.arange(len(found))
    for reach in (_NEAR, _FAR):
        offset = np.arange(-reach, reach + 1)
        row = at[0][left, None, None] + offset[:, None]
        column = at[1][left, None, None] + offset
        height, width = block.shape
        there = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
        usable = there & good[row, column]
        values = np.where(usable, block[row, column], np.nan).astype(np.float64)
        ordered, count = _ordered(values.reshape(len(left), offset.size**2))
        line, last = np.arange(len(left)), np.maximum(count - 1, 0)
        middle = (ordered[line, last // 2] + ordered[line, (last + 1) // 2]) / 2
        found[left] = middle
        left = left[count == 0]
    return found
