"""Equal values at the ends of rows, collected block by block."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.pixels.filled_edges import BESIDE, Edge, is_amid, is_sharp, widest

__all__ = ["RowEnds", "share_of"]

Floats = NDArray[np.float32]
# Equal columns at an edge that are no chance.
_LEAST_COLUMNS = 3
# Rows that show what is beside an edge.
_STRIPS = 16


class RowEnds:
    """Collects what the ends of a series' rows hold. It can be pickled.

    The blocks of a row must come with their columns in order.

    Parameters
    ----------
    shape
        ``(tilt, y, u)`` of the series.
    tilts, rows
        Those that are scanned, with bounds.

    Attributes
    ----------
    values
        Of each row of each view the values at its two ends, ``(end, tilt, row)``.
    runs
        How many columns from each end are equal to them, ``(end, tilt, row)``.
    strips
        Of some rows what is at either end, from the end inwards, ``(end, tilt, row, column)``.
    """

    def __init__(self, shape: tuple[int, int, int], tilts: slice, rows: slice) -> None:
        self.shape, self._tilts, self._rows = shape, tilts, rows
        lines = tilts.stop - tilts.start, rows.stop - rows.start
        self.values = np.zeros((2, *lines), dtype=np.float32)
        self.runs = np.zeros((2, *lines), dtype=np.int64)
        wide = min(shape[2], widest(shape[2]) + BESIDE)
        strip_rows = np.unique(np.linspace(0, shape[1] - 1, _STRIPS).astype(int))
        self._strip_rows = strip_rows[(strip_rows >= rows.start) & (strip_rows < rows.stop)]
        self.strips = np.zeros((2, lines[0], len(self._strip_rows), wide), dtype=np.float32)

    def merge(self, part: RowEnds) -> None:
        """Take over what has been collected of some views and rows."""
        lines = self._lines(part._tilts, part._rows)
        self.values[:, *lines], self.runs[:, *lines] = part.values, part.runs
        self.strips[:, lines[0], self._inside(part._rows)] = part.strips

    def add(self, origin: tuple[int, int, int], block: Floats) -> None:
        """Scan a block ``(tilt, rows, columns)`` that begins at ``(tilt, y, u)``."""
        self._add_runs(origin, block)
        self._add_strips(origin, block)

    def edges(self, tilt: int, lines: NDArray[np.bool_], probes: Floats) -> list[Edge]:
        """Equal columns at the ends of one view's rows, which are not all equal throughout.

        Parameters
        ----------
        tilt
            The view.
        lines
            Which of its rows are looked at, ``(row,)``.
        probes
            Some pixels of the view, from everywhere.
        """
        field, found = self.shape[2], list[tuple[int, int, np.float32]]()
        for side in (0, 1):
            ends, runs = self.values[side, tilt, lines], self.runs[side, tilt, lines]
            width = int(runs.min()) if (ends == ends[0]).all() else 0
            if width >= _LEAST_COLUMNS:
                found.append((side, width, ends[0]))
        taken = 1 - lines.mean() * (1 - sum(width for _, width, _ in found) / field)
        return [
            Edge(
                tilt,
                side,
                width,
                float(value),
                share=share_of(probes, value),
                taken=float(taken),
                amid=is_amid(probes, value),
                sharp=is_sharp(self.strips[side, tilt, :, width:], float(value)),
            )
            for side, width, value in found
        ]

    def _add_runs(self, origin: tuple[int, int, int], block: Floats) -> None:
        t0, y0, u0 = origin
        tilts, rows, columns = block.shape
        lines = self._lines(slice(t0, t0 + tilts), slice(y0, y0 + rows))
        (first, last), (lead, trail) = (
            (ends[0][lines], ends[1][lines]) for ends in (self.values, self.runs)
        )
        if u0 == 0:
            first[:] = block[..., 0]
        from_left = _leading(block, first)
        lead += np.where(lead == u0, from_left, 0)
        before, last[:] = last.copy(), block[..., -1]
        from_right = _leading(block[..., ::-1], last)
        on = (from_right == columns) & (before == last) & (u0 > 0)
        trail[:] = from_right + np.where(on, trail, 0)

    def _add_strips(self, origin: tuple[int, int, int], block: Floats) -> None:
        (t0, y0, u0), field = origin, self.shape[2]
        tilts, rows, columns = block.shape
        wide = self.strips.shape[3]
        inside = self._inside(slice(y0, y0 + rows))
        tilt, _ = self._lines(slice(t0, t0 + tilts), slice(y0, y0 + rows))
        lines = self._strip_rows[inside] - y0
        if not len(lines):
            return
        if u0 < wide:
            part = block[:, lines, : wide - u0]
            self.strips[0, tilt, inside, u0 : u0 + part.shape[2]] = part
        from_right = field - u0 - columns
        if from_right < wide:
            part = block[:, lines, ::-1][..., : wide - from_right]
            self.strips[1, tilt, inside, from_right : from_right + part.shape[2]] = part

    def _lines(self, tilts: slice, rows: slice) -> tuple[slice, slice]:
        """Tilts and rows as indices into the tables of lines."""
        t, y = self._tilts.start, self._rows.start
        return slice(tilts.start - t, tilts.stop - t), slice(rows.start - y, rows.stop - y)

    def _inside(self, rows: slice) -> slice:
        """The rows that show what is beside an edge, among some rows, as indices into their table."""
        first, stop = np.searchsorted(self._strip_rows, (rows.start, rows.stop)).tolist()
        return slice(first, stop)


def _leading(block: Floats, value: Floats) -> NDArray[np.int64]:
    """Number of columns from the left on that equal their line's value, ``(tilt, rows)``."""
    few = block[..., :_LEAST_COLUMNS] == value[..., None]
    count: NDArray[np.int64] = few.cumprod(axis=2).sum(axis=2, dtype=np.int64)
    long = np.nonzero(few.all(axis=2))
    equal = block[long] == value[long][:, None]
    count[long] = np.where(equal.all(axis=1), block.shape[2], equal.argmin(axis=1))
    return count


def share_of(probes: Floats, value: np.float32) -> float:
    """Share of some pixels that hold a value."""
    return float((probes == value).mean()) if probes.size else 0.0
