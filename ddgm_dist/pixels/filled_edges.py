"""Whether equal columns at the detector's ends were filled in, or are vacuum beside a specimen.

Exact zeros beside a specimen are ordinary: counts, clipped backgrounds, simulations without noise.
What alignment fills in is told from vacuum by all of these, and where one of them fails it is not:

- it is narrow (`widest`);
- the specimen begins at once beside it. The edge of a specimen is oblique to most views, and rises over
  some columns. This is not asked where the value lies amid the view's others: vacuum is an extreme;
- its widths are no specimen's. They are equal in views between whose angles a specimen's edge would
  have moved, or they jump by more between neighbouring angles than one could.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.geometry import Geometry

__all__ = ["BESIDE", "are_filled", "widest"]

_WIDEST, _SHARE, _LEAST_WIDEST = 32, 20, 4
# Columns beside an edge that tell what begins there; of its level, so much must be there at once.
BESIDE, _AT_ONCE = 9, 0.6
# Share of the views that must show it.
_MOST = 0.75
# Share of a view's pixels that must lie on either side of a value that is no extreme.
_AMID = 0.01
# Columns that a specimen's edge would have moved by, that widths may differ by, and jumps that tell.
_MOVES, _EVEN, _JUMP, _JUMPS = 4.0, 1, 2.0, 2


def widest(field: int) -> int:
    """How many columns of a detector's end may be taken for filled in."""
    return min(_WIDEST, max(_LEAST_WIDEST, field // _SHARE))


def are_filled(
    widths: NDArray[np.int64],
    values: NDArray[np.float32],
    ends: NDArray[np.float32],
    probes: list[NDArray[np.float32]],
    geometry: Geometry,
) -> bool:
    """Whether the edges at one end of the detector were filled in.

    Parameters
    ----------
    widths, values
        Of each tilt: how many columns are equal, 0 where none are, and to what.
    ends
        ``(tilt, rows, columns)``: some rows, from the detector's end inwards, `widest` and `BESIDE`
        columns of them.
    probes
        Some pixels of each view, from everywhere.
    geometry
        Of the series.
    """
    filled = np.flatnonzero(widths)
    if not len(filled) or widths.max() > widest(geometry.field):
        return False
    amid = [
        min((probes[t] < values[t]).mean(), (probes[t] > values[t]).mean()) >= _AMID
        if len(probes[t])
        else False
        for t in filled
    ]
    if not all(amid):
        sharp = [_is_sharp(ends[t, :, widths[t] :], float(values[t])) for t in filled]
        if np.mean(sharp) < _MOST:
            return False
    return _are_even(widths, geometry) or _jump(widths, geometry)


def _is_sharp(beside: NDArray[np.float32], value: float) -> bool:
    """Whether what is beside an edge begins at once; the edge's own columns are cut off."""
    first, others = (
        part[np.isfinite(part)].astype(np.float64) for part in (beside[:, 0], beside[:, 1:BESIDE])
    )
    if not (len(first) and len(others)):
        return False
    level = abs(float(others.mean()) - value)
    return level > 0 and abs(float(first.mean()) - value) >= _AT_ONCE * level


def _are_even(widths: NDArray[np.int64], geometry: Geometry) -> bool:
    """Whether they are equal where the edge of a specimen would have moved."""
    filled = np.flatnonzero(widths)
    cosines = np.cos(np.asarray(geometry.angles)[filled])
    moves = geometry.field / 2 * float(np.ptp(cosines))
    return moves >= _MOVES and int(np.ptp(widths[filled])) <= _EVEN


def _jump(widths: NDArray[np.int64], geometry: Geometry) -> bool:
    """Whether they change from view to view by more than the edge of a specimen moves."""
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
