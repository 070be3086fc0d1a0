"""Views whose image does not lie where those of the neighbouring angles say, or is another image.

Each view is held against the two nearest on either side in angle. It is displaced if at least three of
these four find it off by the same shift. So neither a drift counts, nor a jump after which all views are
shifted. The shift must be `MANY` times what views of these angles are off by as a rule. So where nothing
is aligned, or correlations are chance, nothing is displaced.

A view is unrelated if it correlates with none of the four, although the two beside it correlate well
with each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ddgm_dist.views.affine import Affine
from ddgm_dist.views.neighbours import Neighbours, Shift
from ddgm_dist.views.statistics import ViewStatistics

__all__ = [
    "LEAST_VIEWS",
    "Displacement",
    "choose_neighbours",
    "find_displaced",
    "nearest",
    "relation",
]

LEAST_VIEWS = 5
MANY = 6.0
# Shifts below this are no fault, pixels of the full image; nor are those below a thumbnail's pixel.
_LEAST_SHIFT = 5.0
# Height of a correlation's peak that is chance at most, and of one beyond doubt.
_UNRELATED, _CLEAR = 6.0, 9.0
# Share of the usual height that a peak must have to count as a vote.
_COUNTS = 0.6
# Votes that agree lie within this share of their median; views on either side that give the usual shift.
_AGREE, _LOCAL = 0.35, 4
# Pairs that the direction of the stretch is chosen by, and by how much another must be better.
_PAIRS, _BETTER = 12, 1.08


@dataclass(frozen=True)
class Displacement:
    """A view that is off.

    Attributes
    ----------
    view
        Its index.
    shift_px
        ``(dy, dx)`` by which its image is off, pixels of the aligned view; None if it is unrelated.
    usual_px
        What views of these angles are off by as a rule, pixels.
    height
        Height of the highest of its correlations.
    """

    view: int
    shift_px: tuple[float, float] | None
    usual_px: float
    height: float


def choose_neighbours(
    statistics: Sequence[ViewStatistics],
    angles_deg: Sequence[float],
    affines: Sequence[Affine],
    shape: tuple[int, int],
    order: Sequence[int],
) -> Neighbours:
    """Correlations with the stretch that makes the views most alike; across columns when in doubt.

    The views of a stack that is not aligned may have their tilt axis along the rows.
    """
    step = max(1, (len(order) - 1) // _PAIRS)
    pairs = [(order[k], order[k + 1]) for k in range(0, len(order) - 1, step)]
    best, most = None, 0.0
    for stretch in ("x", "y", None):
        found = Neighbours(statistics, angles_deg, affines, shape, stretch)
        height = float(np.median([found.shift(*pair).height for pair in pairs]))
        if best is None or height > _BETTER * most:
            best, most = found, height
    assert best is not None, "one of three"
    return best


def nearest(order: Sequence[int], position: int, count: int = 2) -> list[int]:
    """The views next to one in angle, so many on either side or fewer at the ends."""
    return [
        order[k]
        for k in range(max(0, position - count), min(len(order), position + count + 1))
        if k != position
    ]


def relation(neighbours: Neighbours, view: int, others: Sequence[int]) -> float:
    """Height of the highest correlation of a view with some others."""
    return max((neighbours.shift(view, other).height for other in others), default=0.0)


def find_displaced(neighbours: Neighbours, order: Sequence[int]) -> tuple[Displacement, ...]:
    """The views that are displaced or unrelated.

    Parameters
    ----------
    neighbours
        Correlations of the views.
    order
        Views to look at, in the order of their angles.
    """
    left, found = list(order), list[Displacement]()
    # Once more without what was found, for a view beside two bad ones.
    for _ in range(4):
        if len(left) < LEAST_VIEWS:
            break
        more = [*_unrelated(neighbours, left)] or [*_shifted(neighbours, left)]
        if not more:
            break
        found += more
        gone = {one.view for one in more}
        left = [view for view in left if view not in gone]
    return tuple(sorted(found, key=lambda one: one.view))


def _unrelated(neighbours: Neighbours, order: Sequence[int]) -> list[Displacement]:
    found = list[Displacement]()
    for k, view in enumerate(order):
        height = relation(neighbours, view, nearest(order, k))
        if height >= _UNRELATED:
            continue
        # Those beside it; at an end the next two, which are no nearer to each other.
        beside = (order[k - 1], order[k + 1]) if 0 < k < len(order) - 1 else _beyond_end(order, k)
        if neighbours.shift(*beside).height >= _CLEAR:
            found.append(Displacement(view, None, 0.0, height))
    return found


def _beyond_end(order: Sequence[int], k: int) -> tuple[int, int]:
    return (order[1], order[2]) if k == 0 else (order[-2], order[-3])


def _shifted(neighbours: Neighbours, order: Sequence[int]) -> list[Displacement]:
    residuals = np.array([_residual(neighbours, order, k) for k in range(len(order))])
    usual = float(np.median(residuals))
    least = max(_LEAST_SHIFT, float(neighbours.block))
    heights = [neighbours.shift(order[k], order[k + 1]).height for k in range(len(order) - 1)]
    counts = _COUNTS * float(np.median(heights))
    found = list[Displacement]()
    for k, view in enumerate(order):
        local = float(np.median(residuals[max(0, k - _LOCAL) : k + _LOCAL + 1]))
        limit = max(least, MANY * max(usual, local))
        shift = _agreed(neighbours, order, k, limit, counts)
        if shift is not None:
            height = relation(neighbours, view, nearest(order, k))
            found.append(Displacement(view, shift, max(usual, local), height))
    return found


def _in_view(neighbours: Neighbours, view: int, shift: Shift) -> tuple[float, float]:
    dy, dx = shift.dy, shift.dx
    across = neighbours.cosine(view)
    return (dy * across, dx) if neighbours.stretch == "y" else (dy, dx * across)


def _residual(neighbours: Neighbours, order: Sequence[int], k: int) -> float:
    """Distance of a view from the middle of those beside it; at an end, from their drift."""
    view = order[k]
    if 0 < k < len(order) - 1:
        one, two = (neighbours.shift(view, order[k + step]) for step in (-1, 1))
        off = Shift((one.dy + two.dy) / 2, (one.dx + two.dx) / 2, 0.0)
    else:
        off = _off_the_drift(neighbours, order, k)
    return math.hypot(*_in_view(neighbours, view, off))


def _off_the_drift(neighbours: Neighbours, order: Sequence[int], k: int) -> Shift:
    near, far = _beyond_end(order, k)
    one, drift = neighbours.shift(order[k], near), neighbours.shift(near, far)
    return Shift(one.dy - drift.dy, one.dx - drift.dx, min(one.height, drift.height))


def _agreed(
    neighbours: Neighbours, order: Sequence[int], k: int, limit: float, counts: float
) -> tuple[float, float] | None:
    """The shift that the views beside it agree on, if it is larger than the limit."""
    view = order[k]
    votes = [neighbours.shift(view, other) for other in nearest(order, k)]
    if k in (0, len(order) - 1):
        votes.append(_off_the_drift(neighbours, order, k))
    counted = [_in_view(neighbours, view, vote) for vote in votes if vote.height >= counts]
    if len(counted) < 3:
        return None
    dy, dx = (float(np.median([vote[axis] for vote in counted])) for axis in (0, 1))
    size = math.hypot(dy, dx)
    agree = sum(math.hypot(y - dy, x - dx) <= _AGREE * size for y, x in counted)
    return (dy, dx) if size > limit and agree >= 3 else None
