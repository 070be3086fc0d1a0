"""Scan of all pixels of a tilt series, block by block, for what may be no measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.pixels.artifacts import runs_of
from ddgm_dist.pixels.filled_edges import Edge
from ddgm_dist.pixels.hot_scan import HotScan, Reader
from ddgm_dist.pixels.observations import COMMON, Observations, share_elsewhere
from ddgm_dist.pixels.row_ends import RowEnds, share_of
from ddgm_dist.pixels.screen import Patch

__all__ = ["Scan"]

Floats = NDArray[np.float32]
# Fields that are too narrow for anything to be said of their rows.
_NARROWEST = 16
_SHOWN = 3


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
        read: Reader | None = None,
        *,
        tilts: slice = slice(None),
        rows: slice = slice(None),
    ) -> None:
        self.shape, self.threshold = shape, threshold
        (t0, t1, _), (y0, y1, _) = tilts.indices(shape[0]), rows.indices(shape[1])
        self._hot = HotScan(shape, threshold, read)
        self._ends = RowEnds(shape, slice(t0, t1), slice(y0, y1))

    @property
    def crowded(self) -> bool:
        """See the attribute."""
        return self._hot.crowded

    def merge(self, part: Scan) -> None:
        """Take over what a scan of some views and rows has found.

        Pixels that stand out are counted until they are too many, part by part. So parts should come in
        the same order each time.
        """
        self._ends.merge(part._ends)
        self._hot.merge(part._hot.count, part._hot.indices())

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays of all that has been found, to be kept in a file; see `from_arrays`."""
        return {
            "hot": self._hot.indices(),
            "count": np.array(self._hot.count),
            "ends": self._ends.values,
            "runs": self._ends.runs,
            "strips": self._ends.strips,
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
        ends = scan._ends
        for name, known in (("ends", ends.values), ("runs", ends.runs), ("strips", ends.strips)):
            known[:] = _alike(name, arrays[name], known)
        count = int(_alike("count", arrays["count"], np.array(0)))
        scan._hot.merge(count, _alike("hot", arrays["hot"], np.empty(count, np.int64)))
        return scan

    def add(self, origin: tuple[int, int, int], block: Floats) -> None:
        """Scan a block ``(tilt, rows, columns)`` that begins at ``(tilt, y, u)``."""
        self._hot.add(origin, block)
        self._ends.add(origin, block)

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
            first, lead = self._ends.values[0, tilt], self._ends.runs[0, tilt]
            equal = lead == field
            if shut[tilt] or (equal.all() and (first == first[0]).all()):
                views.append(tilt)
                continue
            missing = equal.copy()
            for value in np.unique(first[equal]):
                # A value that the other rows have as well is vacuum.
                blank = equal & (first == value)
                share = share_of(probes[tilt], value)
                if share_elsewhere(share, float(blank.mean())) >= COMMON:
                    missing &= ~blank
            rows += [(tilt, tilt + 1, a, b, 0, field) for a, b in runs_of(missing, 0, height)]
            if not equal.all():
                edges += self._ends.edges(tilt, ~equal, probes[tilt])
        hot = self._hot.indices()
        if self.crowded:
            _, height, field = self.shape
            tilt_of, in_view = np.divmod(hot, height * field)
            order = np.lexsort((in_view % field, tilt_of, in_view // field))
            hot = hot[order[:_SHOWN]]
        return Observations(
            shape=self.shape,
            threshold=self.threshold,
            hot=np.sort(hot),
            count=self._hot.count,
            crowded=self.crowded,
            blank=tuple(views),
            rows=tuple(rows),
            edges=tuple(edges),
        )


def _alike(name: str, array: NDArray[Any], known: NDArray[Any]) -> NDArray[Any]:
    """The array, if it is of the type and the shape of a known one."""
    if (array.dtype, array.shape) != (known.dtype, known.shape):
        raise ValueError(f"{name} is {array.dtype} {array.shape}")
    return array


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
