"""Scan of all pixels of a tilt series, block by block, for what may be no measurement."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.pixels.artifacts import runs_of
from ddgm_dist.pixels.filled_edges import BESIDE, Edge, is_amid, is_sharp, widest
from ddgm_dist.pixels.hot_pixels import (
    MARGIN,
    Pixels,
    find_hot,
    may_be_hot,
    stands_out_in_its_row,
    surroundings,
)
from ddgm_dist.pixels.observations import COMMON, Observations, share_elsewhere
from ddgm_dist.pixels.screen import Patch

__all__ = ["Scan"]

Floats = NDArray[np.float32]
# Equal columns at an edge that are no chance, and fields that are too narrow.
_LEAST_COLUMNS, _NARROWEST = 3, 16
# Rows that show what is beside an edge.
_STRIPS = 16
_SHOWN = 3
# Pixels that stand out at most: one in so many, but not fewer or more than these.
_HOT_SHARE, _LEAST_MOST_HOT, _MOST_HOT = 100, 1000, 2**22
_NO_HOT = np.empty(0, np.int64)


class Scan:
    """Collects what blocks of a series show.

    The blocks of a row must come with their columns in order, and each pixel once. Blocks of different
    rows may come in any order. A scan of whole rows of some views is a part of that of the series
    (`merge`); it can be pickled, without ``read``.

    Parameters
    ----------
    shape
        ``(tilt, y, u)`` of the series.
    threshold
        Distance by which a hot pixel stands out; without it none is searched for.
    read
        Reads rows, columns and tilts of the series, ``(tilt, rows, columns)``: for hot pixels at the
        ends of blocks. Without it these are judged by what their block holds.
    tilts, rows
        Those that are scanned; all by default.

    Attributes
    ----------
    crowded
        Whether more pixels stand out than faults could.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        threshold: float | None,
        read: Callable[[slice, slice, slice], Floats] | None = None,
        *,
        tilts: slice = slice(None),
        rows: slice = slice(None),
    ) -> None:
        self.shape, self.threshold, self._read = shape, threshold, read
        self._hot, self._count = list[NDArray[np.int64]](), 0
        (t0, t1, _), (y0, y1, _) = tilts.indices(shape[0]), rows.indices(shape[1])
        self._tilts, self._rows = slice(t0, t1), slice(y0, y1)
        share = math.prod(shape) // _HOT_SHARE
        self._most = min(_MOST_HOT, max(_LEAST_MOST_HOT, share))
        lines = t1 - t0, y1 - y0
        # Of each row of each view: its end values, and how many columns from each end are equal to them.
        self._ends = np.zeros((2, *lines), dtype=np.float32)
        self._runs = np.zeros((2, *lines), dtype=np.int64)
        # Of some rows what is at either end, from the end inwards.
        wide = min(shape[2], widest(shape[2]) + BESIDE)
        strip_rows = np.unique(np.linspace(0, shape[1] - 1, _STRIPS).astype(int))
        self._strip_rows = strip_rows[(strip_rows >= y0) & (strip_rows < y1)]
        self._strips = np.zeros((2, t1 - t0, len(self._strip_rows), wide), dtype=np.float32)

    @property
    def crowded(self) -> bool:
        """See the attribute."""
        return self._count > self._most

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_read": None}

    def merge(self, part: Scan) -> None:
        """Take over what a scan of some views and rows has found.

        Pixels that stand out are counted until they are too many, part by part. So parts should come in
        the same order each time.
        """
        lines = self._lines(part._tilts, part._rows)
        self._ends[:, *lines], self._runs[:, *lines] = part._ends, part._runs
        inside = self._inside(part._rows)
        self._strips[:, lines[0], inside] = part._strips
        if not self.crowded:
            self._count += part._count
            self._hot += part._hot

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays of all that has been found, to be kept in a file; see `from_arrays`."""
        return {
            "hot": np.concatenate([_NO_HOT, *self._hot]),
            "count": np.array(self._count),
            "ends": self._ends,
            "runs": self._runs,
            "strips": self._strips,
        }

    @staticmethod
    def from_arrays(
        shape: tuple[int, int, int], tilts: slice, rows: slice, arrays: Mapping[str, NDArray[Any]]
    ) -> Scan:
        """Restore a part of a scan, to be merged.

        Raises
        ------
        KeyError, TypeError, ValueError
            The arrays are not those of such a scan.
        """
        scan = Scan(shape, None, tilts=tilts, rows=rows)
        for name in ("ends", "runs", "strips"):
            known = getattr(scan, f"_{name}")
            known[:] = _alike(name, arrays[name], known)
        scan._count = int(_alike("count", arrays["count"], np.array(0)))
        scan._hot = [_alike("hot", arrays["hot"], np.empty(scan._count, np.int64))]
        return scan

    def _lines(self, tilts: slice, rows: slice) -> tuple[slice, slice]:
        """Tilts and rows as indices into the tables of lines."""
        t, y = self._tilts.start, self._rows.start
        return slice(tilts.start - t, tilts.stop - t), slice(rows.start - y, rows.stop - y)

    def _inside(self, rows: slice) -> slice:
        """The rows that show what is beside an edge, among some rows, as indices into their table."""
        first, stop = np.searchsorted(self._strip_rows, (rows.start, rows.stop)).tolist()
        return slice(first, stop)

    def add(self, origin: tuple[int, int, int], block: Floats) -> None:
        """Scan a block ``(tilt, rows, columns)`` that begins at ``(tilt, y, u)``."""
        self._add_hot(origin, block)
        self._add_runs(origin, block)
        self._add_strips(origin, block)

    def observations(self, probes: Sequence[Floats]) -> Observations:
        """The suspect pixels of all blocks.

        Parameters
        ----------
        probes
            Some pixels of each view, from everywhere: a value that many of them have is data.
        """
        tilts, height, field = self.shape
        views, rows, edges = list[int](), list[Patch](), list[Edge]()
        shut = _shut(probes)
        for tilt in range(tilts if field >= _NARROWEST else 0):
            first, lead = self._ends[0, tilt], self._runs[0, tilt]
            equal = lead == field
            if shut[tilt] or (equal.all() and (first == first[0]).all()):
                views.append(tilt)
                continue
            missing = equal.copy()
            for value in np.unique(first[equal]):
                # A value that the other rows have as well is vacuum.
                blank = equal & (first == value)
                share = _share(probes[tilt], value)
                if share_elsewhere(share, float(blank.mean())) >= COMMON:
                    missing &= ~blank
            rows += [(tilt, tilt + 1, a, b, 0, field) for a, b in runs_of(missing, 0, height)]
            if not equal.all():
                edges += self._edges(tilt, ~equal, probes[tilt])
        hot = np.concatenate([_NO_HOT, *self._hot])
        if self.crowded:
            _, height, field = self.shape
            tilt_of, in_view = np.divmod(hot, height * field)
            order = np.lexsort((in_view % field, tilt_of, in_view // field))
            hot = hot[order[:_SHOWN]]
        return Observations(
            shape=self.shape,
            threshold=self.threshold,
            hot=np.sort(hot),
            count=self._count,
            crowded=self.crowded,
            blank=tuple(views),
            rows=tuple(rows),
            edges=tuple(edges),
        )

    def _edges(self, tilt: int, lines: NDArray[np.bool_], probes: Floats) -> list[Edge]:
        """Equal columns at the ends of one view's rows, which are not all equal throughout."""
        field, found = self.shape[2], list[tuple[int, int, np.float32]]()
        for side in (0, 1):
            ends, runs = self._ends[side, tilt, lines], self._runs[side, tilt, lines]
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
                share=_share(probes, value),
                taken=float(taken),
                amid=is_amid(probes, value),
                sharp=is_sharp(self._strips[side, tilt, :, width:], float(value)),
            )
            for side, width, value in found
        ]

    def _add_hot(self, origin: tuple[int, int, int], block: Floats) -> None:
        if self.threshold is None:
            return
        (t0, y0, u0), threshold = origin, self.threshold
        near = list[Pixels]()
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
        self._count += len(flat)
        self._hot.append(flat)

    def _add_runs(self, origin: tuple[int, int, int], block: Floats) -> None:
        t0, y0, u0 = origin
        tilts, rows, columns = block.shape
        lines = self._lines(slice(t0, t0 + tilts), slice(y0, y0 + rows))
        (first, last), (lead, trail) = (
            (ends[0][lines], ends[1][lines]) for ends in (self._ends, self._runs)
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
        wide = self._strips.shape[3]
        inside = self._inside(slice(y0, y0 + rows))
        tilt, _ = self._lines(slice(t0, t0 + tilts), slice(y0, y0 + rows))
        lines = self._strip_rows[inside] - y0
        if not len(lines):
            return
        if u0 < wide:
            part = block[:, lines, : wide - u0]
            self._strips[0, tilt, inside, u0 : u0 + part.shape[2]] = part
        from_right = field - u0 - columns
        if from_right < wide:
            part = block[:, lines, ::-1][..., : wide - from_right]
            self._strips[1, tilt, inside, from_right : from_right + part.shape[2]] = part


def _alike(name: str, array: NDArray[Any], known: NDArray[Any]) -> NDArray[Any]:
    """The array, if it is of the type and the shape of a known one."""
    if (array.dtype, array.shape) != (known.dtype, known.shape):
        raise ValueError(f"{name} is {array.dtype} {array.shape}")
    return array


def _leading(block: Floats, value: Floats) -> NDArray[np.int64]:
    """Number of columns from the left on that equal their line's value, ``(tilt, rows)``."""
    few = block[..., :_LEAST_COLUMNS] == value[..., None]
    count: NDArray[np.int64] = few.cumprod(axis=2).sum(axis=2, dtype=np.int64)
    long = np.nonzero(few.all(axis=2))
    equal = block[long] == value[long][:, None]
    count[long] = np.where(equal.all(axis=1), block.shape[2], equal.argmin(axis=1))
    return count


def _shut(probes: Sequence[Floats]) -> NDArray[np.bool_]:
    """Views that hold next to nothing of what the others do: recorded without a beam, but for noise.

    Their median is farther from the usual one than half of it, and they vary less than a quarter as
    much.
    Where medians are small beside how much the views vary, as in normalised series, they are not used.
    """
    few = [p.astype(np.float64) if p.size else np.zeros(1) for p in probes]
    # Of a sparse specimen the median is vacuum in every view, where a mean of some pixels scatters.
    level = np.array([np.median(p) for p in few])
    spread = np.array([float(np.subtract(*np.quantile(p, (0.99, 0.01)))) for p in few])
    usual = float(np.median(level))
    varies = float(np.median(spread))
    far = np.abs(level - usual) > 0.5 * max(abs(usual), varies)
    there = np.array([p.size > 0 for p in probes])
    found: NDArray[np.bool_] = there & far & (spread < 0.25 * varies)
    return found


def _share(probes: Floats, value: np.float32) -> float:
    """Share of some pixels that hold a value."""
    return float((probes == value).mean()) if probes.size else 0.0
