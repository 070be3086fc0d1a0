"""Distinguish columns that were filled in at the detector's ends from vacuum beside a specimen.

Exact zeros beside a specimen are ordinary: counts, clipped backgrounds, simulations without noise.
An edge is taken for filled in only if all of these hold:

- It is narrow (`widest`).
- The specimen begins at once beside it. The edge of a specimen is oblique to most views, and rises over
  some columns. This is not asked where the value lies amid the view's others: vacuum is an extreme.
- Its widths are no specimen's. They are equal in views between whose angles a specimen's edge would
  have moved, or they jump by more between neighbouring angles than one could.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.geometry import Geometry

__all__ = ["BESIDE", "Edge", "are_filled", "is_amid", "is_sharp", "widest"]

_WIDEST, _SHARE, _LEAST_WIDEST = 32, 20, 4
# Columns beside an edge that show what begins there; so much of its level must be there at once.
BESIDE, _AT_ONCE = 9, 0.6
# Share of the views that must show it.
_MOST = 0.75
# Share of a view's pixels that must lie on either side of a value that is no extreme.
_AMID = 0.01
# Columns that a specimen's edge would have moved by, that widths may differ by, and jumps that decide.
_MOVES, _EVEN, _JUMP, _JUMPS = 4.0, 1, 2.0, 2


@dataclass(frozen=True)
class Edge:
    """Columns at one end of a view's rows that are all equal.

    Attributes
    ----------
    tilt
        Index of the view.
    side
        0 at the first column, 1 at the last.
    width, value
        Number of columns, and their value.
    share, taken
        Share of the view's sampled pixels that hold the value; share that edges and blank rows take.
    amid
        Whether the value lies amid the view's others.
    sharp
        Whether something else begins at once beside the edge.
    """

    tilt: int
    side: int
    width: int
    value: float
    share: float
    taken: float
    amid: bool
    sharp: bool


def widest(field: int) -> int:
    """Largest number of columns at a detector's end that may be taken for filled in."""
    return min(_WIDEST, max(_LEAST_WIDEST, field // _SHARE))


def are_filled(edges: Sequence[Edge], geometry: Geometry) -> bool:
    """Return whether the edges at one end of the detector were filled in.

    Parameters
    ----------
    edges
        Edges at this end, one per tilt at most.
    geometry
        Geometry of the series.
    """
    if not edges or max(edge.width for edge in edges) > widest(geometry.field):
        return False
    amid = all(edge.amid for edge in edges)
    if not amid and np.mean([edge.sharp for edge in edges]) < _MOST:
        return False
    widths = np.zeros(geometry.tilts, dtype=np.int64)
    for edge in edges:
        widths[edge.tilt] = edge.width
    return _are_even(widths, geometry) or _jump(widths, geometry)


def is_amid(probes: NDArray[np.float32], value: np.float32) -> bool:
    """Return whether some of a view's pixels lie below a value, and some above."""
    if not len(probes):
        return False
    return bool(min((probes < value).mean(), (probes > value).mean()) >= _AMID)


def is_sharp(beside: NDArray[np.float32], value: float) -> bool:
    """Return whether the values change abruptly beside an edge.

    Parameters
    ----------
    beside
        ``(rows, columns)`` from the edge inwards, without its own columns.
    value
        Value that the edge holds.
    """
    if not beside.shape[1]:
        return False  # wider than what may be filled in
    first, others = (
        part[np.isfinite(part)].astype(np.float64) for part in (beside[:, 0], beside[:, 1:BESIDE])
    )
    if not (len(first) and len(others)):
        return False
    level = abs(float(others.mean()) - value)
    return level > 0 and abs(float(first.mean()) - value) >= _AT_ONCE * level


def _are_even(widths: NDArray[np.int64], geometry: Geometry) -> bool:
    """Return whether the widths are equal although the edge of a specimen would have moved."""
    filled = np.flatnonzero(widths)
    cosines = np.cos(np.asarray(geometry.angles)[filled])
    moves = geometry.field / 2 * float(np.ptp(cosines))
    return moves >= _MOVES and int(np.ptp(widths[filled])) <= _EVEN


def _jump(widths: NDArray[np.int64], geometry: Geometry) -> bool:
    """Return whether widths change from view to view by more than the edge of a specimen moves."""
    angles = np.asarray(geometry.angles)
    order = np.argsort(angles)
    angles = angles[order]
    along = np.array([geometry.shift(int(t))[1] for t in order])
    reach = (
        geometry.field / 2 * np.abs(np.diff(np.cos(angles)))
        + geometry.thickness / 2 * np.abs(np.diff(np.sin(angles)))
        + np.abs(np.diff(along))
    )
    jumps = np.abs(np.diff(widths[order])) > reach + _JUMP
    return int(jumps.sum()) >= _JUMPS
