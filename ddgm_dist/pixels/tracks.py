"""Rows in which bright pixels belong to the specimen: small points that many views show.

A point of the specimen is in nearly all views, at the column ``x cos(theta) + z sin(theta)``. So a pixel
that stands out is followed to the views nearest in angle. The column there is known up to z, which
lies within the thickness. Cosmic rays hit one view and are found again only by chance. A pixel of the
detector stays at its column, where a point would have moved.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.geometry import Geometry

__all__ = ["specimen_rows"]

# Of so many neighbouring views a point must be found again in so many; views at least.
_NEIGHBOURS, _FOUND, _LEAST_VIEWS = 4, 2, 3
# Rows and columns that a point may be off; columns that a point would have moved by.
_OFF_ROWS, _OFF_COLUMNS, _MOVES = 1, 1.5, 2.0
# Share of the views that show points of a row; share that show a detector's pixel. Factor by which
# points are found again more often than by chance.
_SHOWN, _FIXED, _ABOVE_CHANCE = 0.25, 1 / 3, 2.0

Numbers = NDArray[np.int64]
Wide = NDArray[np.float64]


def specimen_rows(tilt: Numbers, row: Numbers, column: Numbers, geometry: Geometry) -> Numbers:
    """Detector rows in which pixels that stand out may be the specimen's.

    Parameters
    ----------
    tilt, row, column
        Pixels that stand out, in any order.
    geometry
        Geometry of the series.

    Returns
    -------
    rows
        Rows in ascending order, each once.
    """
    views, height = geometry.tilts, geometry.rows
    if views <= _NEIGHBOURS or not len(tilt):
        return np.empty(0, np.int64)
    moved = np.array([geometry.shift(t) for t in range(views)], dtype=np.float64)
    down = np.rint(moved[:, 0]).astype(np.int64)
    line = row - down[tilt]
    place = column - moved[tilt, 1] - (geometry.field - 1) / 2
    loose = ~_stay(tilt, row, column, place, geometry)
    tilt, row, line, place = tilt[loose], row[loose], line[loose], place[loose]
    again, chance = _found_again(tilt, line, place, geometry)
    # Per row, counted with the rows beside it: views with a point that is found again, number of such
    # points, and their number by chance.
    low = int(down.min())
    lines = np.arange(-low - int(down.max() - low) - _OFF_ROWS, height - low + _OFF_ROWS + 1)
    first = int(lines[0])
    shown = np.zeros((views, len(lines)), dtype=bool)
    shown[tilt[again], line[again] - first] = True
    found = np.zeros(len(lines))
    np.add.at(found, line[again] - first, 1)
    expected = np.zeros(len(lines))
    np.add.at(expected, line - first, chance)
    in_views = np.array([_around(one.astype(np.float64)) > 0 for one in shown]).sum(axis=0)
    points = in_views >= max(_LEAST_VIEWS, _SHOWN * views)
    points &= _around(found) >= _ABOVE_CHANCE * _around(expected)
    rows = np.zeros(height, dtype=bool)
    for shift in np.unique(down):
        at = lines[points] + shift
        rows[at[(at >= 0) & (at < height)]] = True
    return np.flatnonzero(rows)


def _stay(
    tilt: Numbers, row: Numbers, column: Numbers, place: Wide, geometry: Geometry
) -> NDArray[np.bool_]:
    """True for pixels that stand out at one place in many views between which a point would move."""
    cosine = np.cos(np.asarray(geometry.angles))[tilt]
    along = np.array([geometry.shift(t)[1] for t in range(geometry.tilts)])[tilt]
    _, which, count = np.unique(
        row * geometry.field + column, return_inverse=True, return_counts=True
    )

    def spread(values: Wide) -> Wide:
        low, high = np.full(len(count), np.inf), np.full(len(count), -np.inf)
        np.minimum.at(low, which, values)
        np.maximum.at(high, which, values)
        apart: Wide = high - low
        return apart

    travel = spread(cosine)[which] * np.abs(place) + spread(along)[which]
    often = count[which] >= max(_LEAST_VIEWS, _FIXED * geometry.tilts)
    stay: NDArray[np.bool_] = often & (travel >= _MOVES)
    return stay


def _found_again(
    tilt: Numbers, line: Numbers, place: Wide, geometry: Geometry
) -> tuple[NDArray[np.bool_], Wide]:
    """True for pixels that are found again in neighbouring views; the probability of chance."""
    angles = np.asarray(geometry.angles)
    views, order = geometry.tilts, np.argsort(angles, kind="stable")
    # All pixels in the order of views, lines and places, so that a search finds those near another.
    step = 4.0 * geometry.field + 1e4
    members = [np.flatnonzero(tilt == t) for t in range(views)]
    keys = [np.sort(line[m] * step + place[m]) for m in members]
    again, chance = np.zeros(len(tilt), dtype=bool), np.zeros(len(tilt))
    for k, t in enumerate(order):
        mine = members[t]
        if not len(mine):
            continue
        start = min(max(k - _NEIGHBOURS // 2, 0), views - _NEIGHBOURS - 1)
        hits, odds = np.zeros(len(mine), dtype=np.int64), np.zeros(len(mine))
        for other in order[start : start + _NEIGHBOURS + 1]:
            if other == t:
                continue
            cosine = math.cos(angles[t])
            near = place[mine] * math.cos(angles[other]) / cosine
            turn = abs(math.sin(angles[other] - angles[t]))
            reach = _OFF_COLUMNS + geometry.thickness / 2 * turn / cosine
            count = np.zeros(len(mine), dtype=np.int64)
            about = np.zeros(len(mine), dtype=np.int64)
            for off in range(-_OFF_ROWS, _OFF_ROWS + 1):
                middle = (line[mine] + off) * step
                low, high = (
                    np.searchsorted(keys[other], middle + edge)
                    for edge in (near - reach, near + reach)
                )
                count += high - low
                low, high = (
                    np.searchsorted(keys[other], middle + edge) for edge in (-step / 2, step / 2)
                )
                about += high - low
            hits += count > 0
            odds += 1 - np.exp(-about * min(1.0, (2 * reach + 1) / geometry.field))
        again[mine] = hits >= _FOUND
        odds /= _NEIGHBOURS
        chance[mine] = np.minimum(1, math.comb(_NEIGHBOURS, _FOUND) * odds**_FOUND)
    return again, chance


def _around(values: Wide) -> Wide:
    """Sums over each row and those beside it."""
    padded = np.pad(values, _OFF_ROWS)
    return np.convolve(padded, np.ones(2 * _OFF_ROWS + 1), mode="valid")
