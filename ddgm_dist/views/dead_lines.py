"""Rows or columns of a detector that do not work: they hold one value in nearly all views."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["find_dead_lines"]

# Share of the views in which a dead line has one value: the others may be faulty.
_VIEWS = 0.9
# Lines side by side that may be dead. Wider runs are what the data are, such as an empty margin.
_MOST = 3
# Lines on either side that say how common one value is, and the chance from which on it is no accident.
_BESIDE, _CHANCE = 32, 0.01


def find_dead_lines(constant: NDArray[np.bool_]) -> list[int]:
    """Lines that have one value in nearly all views, which is no chance beside their neighbours.

    Few counts are often alike. The share of the lines nearby that have one value, view by view, says
    how likely a line is to have one in so many views. A line is dead if less than 0.01 such lines are
    expected in the whole image.

    Parameters
    ----------
    constant
        Lines of one value, ``(view, line)``.

    Returns
    -------
    Indices of the lines, rising. Those at the ends of an image are none: they may be its margin.
    """
    views, lines = constant.shape
    often = constant.sum(axis=0) >= max(1, math.ceil(_VIEWS * views))
    edges = np.flatnonzero(np.diff(often, prepend=False, append=False))
    found = list[int]()
    for start, stop in edges.reshape(-1, 2).tolist():
        if start == 0 or stop == lines or stop - start > _MOST:
            continue
        first, last = max(0, start - _BESIDE), min(lines, stop + _BESIDE)
        beside = np.concatenate([constant[:, first:start], constant[:, stop:last]], axis=1)
        likely = np.log((beside.sum(axis=1) + 1) / (beside.shape[1] + 2))
        for line in range(start, stop):
            others = views - int(constant[:, line].sum())
            expected = math.log(lines * math.comb(views, others))
            if expected + float(likely[constant[:, line]].sum()) < math.log(_CHANCE):
                found.append(line)
    return found
