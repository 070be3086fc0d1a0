"""Sets of covered rows of a volume, one for each range of columns."""

from __future__ import annotations

import math
from bisect import bisect_right

from ddgm_dist.core.box import Box

__all__ = ["RowIntervals"]


class RowIntervals:
    """Covered rows by range of columns, kept as sorted intervals.

    Intervals keep look-ups fast for a million tiles.
    """

    def __init__(self) -> None:
        self._runs: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._sorted = True

    def add(self, box: Box) -> None:
        """Mark the rows of a box as covered over its columns."""
        (_, y0, x0), (_, y1, x1) = box.start, box.stop
        self._runs.setdefault((x0, x1), []).append((y0, y1))
        self._sorted = False

    def has(self, box: Box) -> bool:
        """Return True if all rows of a box are covered over exactly its columns."""
        if not self._sorted:
            self._runs = {columns: _joined(runs) for columns, runs in self._runs.items()}
            self._sorted = True
        (_, y0, x0), (_, y1, x1) = box.start, box.stop
        runs = self._runs.get((x0, x1), [])
        last = bisect_right(runs, (y0, math.inf)) - 1
        return last >= 0 and runs[last][1] >= y1


def _joined(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same rows as the fewest intervals, in ascending order."""
    found: list[tuple[int, int]] = []
    for first, stop in sorted(runs):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((first, stop))
    return found
