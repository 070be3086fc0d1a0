"""NaN and infinite pixels: how many there are, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.view_names import ViewNames

__all__ = ["BadPixels", "Origin", "find_bad"]

Origin = tuple[int, int, int]
# Pixels whose coordinates are kept.
SHOWN = 3


@dataclass(frozen=True)
class BadPixels:
    """NaN and infinite pixels of a tilt series.

    Attributes
    ----------
    count
        Number of them.
    first
        Coordinates ``(tilt, y, u)`` of the first few, in the order of the rows.
    """

    count: int
    first: tuple[tuple[int, int, int], ...] = ()

    @staticmethod
    def merge(parts: Iterable[BadPixels], *, show: int = SHOWN) -> BadPixels:
        """Merge the bad pixels of several blocks."""
        known = list(parts)
        first = sorted((place for part in known for place in part.first), key=itemgetter(1, 0, 2))
        return BadPixels(sum(part.count for part in known), tuple(first[:show]))

    def describe(self, names: ViewNames | None = None) -> str:
        """The count and the first coordinates, as a clause.

        Parameters
        ----------
        names
            Names of the views; with them the clause names the view of each pixel.
        """
        if not self.count:
            return "no NaN or infinite pixels"
        more = ", ..." if self.count > len(self.first) else ""
        if names is not None:
            where = "; ".join(f"{names.name(t)}, row {y}, column {u}" for t, y, u in self.first)
            return (
                f"{self.count} NaN or infinite pixels, first in {where} "
                f"(rows and columns from 0){more}"
            )
        where = ", ".join(str(c) for c in self.first)
        return f"{self.count} NaN or infinite pixels, first at (tilt, y, u) = {where}{more}"


def find_bad(origin: Origin, block: NDArray[np.float32], *, show: int = SHOWN) -> BadPixels:
    """The NaN and infinite pixels of a block.

    Parameters
    ----------
    origin
        First tilt, row and column of the block, ``(tilt, y, u)``.
    block
        ``(tilt, rows, columns)``.
    show
        Number of pixels whose coordinates are kept.
    """
    bad = ~np.isfinite(block)
    count, first = int(np.count_nonzero(bad)), list[Origin]()
    for row in range(block.shape[1] if count else 0):
        tilt, column = np.nonzero(bad[:, row])
        first += [
            (origin[0] + int(t), origin[1] + row, origin[2] + int(u))
            for t, u in zip(tilt[:show], column[:show], strict=True)
        ]
        if len(first) >= show:
            break
    return BadPixels(count, tuple(first[:show]))
