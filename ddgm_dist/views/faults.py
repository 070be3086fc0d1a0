"""Views that are no measurement: blank, saturated, repeated or displaced ones, with a line for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ddgm_dist.errors import InputError
from ddgm_dist.views.affine import Affine
from ddgm_dist.views.brightness import Levels, is_constant, levels, saturated_share
from ddgm_dist.views.displacement import (
    LEAST_VIEWS,
    Displacement,
    choose_neighbours,
    find_displaced,
    nearest,
    relation,
)
from ddgm_dist.views.neighbours import Neighbours
from ddgm_dist.views.statistics import ViewStatistics

__all__ = ["FaultKind", "ViewFault", "find_faults"]

FaultKind = Literal["blank", "saturated", "repeated", "displaced"]
# Correlations this high show that a dim view holds an image of the specimen.
_IMAGE = 7.0
# So many times brighter than those beside it is no exposure of one series.
_FAR_TOO_BRIGHT = 8.0
# Share at the largest value that leaves no doubt.
_CERTAIN = 0.1


@dataclass(frozen=True)
class ViewFault:
    """One fault of one view.

    Attributes
    ----------
    view
        Index, from 0.
    kind
        ``blank``, ``saturated``, ``repeated`` or ``displaced``.
    detail
        What was found, as a clause.
    certain
        Whether the view holds no measurement beyond doubt.
    other
        View that it repeats.
    shift_px
        ``(dy, dx)`` by which its image is off, pixels of the aligned view.
    angle_deg
        Its angle, degrees.
    """

    view: int
    kind: FaultKind
    detail: str
    certain: bool
    other: int | None = None
    shift_px: tuple[float, float] | None = None
    angle_deg: float = 0.0

    @property
    def text(self) -> str:
        """One line; views are numbered from 1, as IMOD does."""
        return f"view {self.view + 1} ({self.angle_deg:+g} degrees) is {self.kind}: {self.detail}"


def find_faults(
    statistics: Sequence[ViewStatistics],
    angles_deg: Sequence[float],
    affines: Sequence[Affine],
    shape: tuple[int, int],
) -> tuple[ViewFault, ...]:
    """Find the views that are no measurement.

    Each view has one fault at most, the first of blank, saturated, repeated and displaced. Displaced
    views are searched for among five good views and more.

    Parameters
    ----------
    statistics, angles_deg, affines
        One of each for each view, in any order of the angles. The affine maps lead from the view to the
        aligned view of the same size, whose tilt axis is vertical.
    shape
        Rows and columns of the views.

    Returns
    -------
    faults
        In the order of the views.

    Raises
    ------
    InputError
        If there are not as many angles or maps as views.
    """
    for name, given in (("angles_deg", angles_deg), ("affines", affines)):
        if len(given) != len(statistics):
            raise InputError(
                name,
                f"{len(given)} of them",
                f"there are {len(statistics)} views and each needs one",
            )
    if not statistics:
        return ()
    search = _Search(statistics, angles_deg, affines, shape)
    search.blank_and_saturated()
    search.repeated()
    search.displaced()
    return tuple(search.found[view] for view in sorted(search.found))


class _Search:
    """The views that are still good, and the faults that were found."""

    def __init__(
        self,
        statistics: Sequence[ViewStatistics],
        angles_deg: Sequence[float],
        affines: Sequence[Affine],
        shape: tuple[int, int],
    ) -> None:
        self.found = dict[int, ViewFault]()
        self._views, self._angles = statistics, angles_deg
        self._all = [int(k) for k in np.argsort(np.asarray(angles_deg), kind="stable")]
        for view in self._all:
            if is_constant(statistics[view]):
                kind: FaultKind = "saturated" if _is_at_the_top(view, statistics) else "blank"
                self._add(view, kind, _constant_detail(statistics[view]), certain=True)
        self._levels: Levels = levels(statistics, self._good)
        self._neighbours: Neighbours | None = None
        if len(self._good) >= LEAST_VIEWS:
            self._neighbours = choose_neighbours(statistics, angles_deg, affines, shape, self._good)

    @property
    def _good(self) -> list[int]:
        """Views without a fault so far, in the order of their angles."""
        return [view for view in self._all if view not in self.found]

    def blank_and_saturated(self) -> None:
        """Find views by their levels."""
        dim = [v for v in self._good if self._levels.is_even(v) or self._levels.is_shut(v)]
        for view in dim:
            if not self._shows_an_image(view, dim):
                self._add(view, "blank", self._dim_detail(view), certain=True)
        for view in self._good:
            share = saturated_share(self._views, view)
            factor = self._levels.brighter(view)
            if share:
                high = self._views[view].high
                detail = f"{100 * share:.3g} % of the pixels have the largest value, {high:g}"
                self._add(view, "saturated", detail, certain=share >= _CERTAIN)
            elif factor > _FAR_TOO_BRIGHT:
                detail = f"it is {factor:.3g} times as bright as the views beside it"
                self._add(view, "saturated", detail, certain=False)

    def _shows_an_image(self, view: int, but: Sequence[int]) -> bool:
        """Return whether a view correlates with those beside it; False where views are few."""
        order = [other for other in self._good if other == view or other not in but]
        if self._neighbours is None or len(order) < LEAST_VIEWS:
            return False
        return relation(self._neighbours, view, nearest(order, order.index(view))) >= _IMAGE

    def repeated(self) -> None:
        """Find views that are equal to another one, to the bit."""
        first = dict[str, int]()
        for view in sorted(self._good):
            digest = self._views[view].digest
            if digest not in first:
                first[digest] = view
                continue
            wrong, other = self._which_is_wrong(view, first[digest])
            first[digest] = other
            detail = (
                f"its pixels equal those of view {other + 1} ({self._angles[other]:+g} degrees)"
            )
            self._add(wrong, "repeated", detail, certain=True, other=other)

    def _which_is_wrong(self, later: int, earlier: int) -> tuple[int, int]:
        """The later one, unless its image fits its neighbours in angle much better."""
        if self._neighbours is None:
            return later, earlier
        heights = list[float]()
        for view, twin in ((later, earlier), (earlier, later)):
            order = [other for other in self._good if other != twin]
            heights.append(relation(self._neighbours, view, nearest(order, order.index(view))))
        return (earlier, later) if heights[0] > 1.5 * heights[1] else (later, earlier)

    def displaced(self) -> None:
        """Find views whose image is off, or is another one."""
        if self._neighbours is None:
            return
        for one in find_displaced(self._neighbours, self._good):
            if one.shift_px is None and self._levels.is_dim(one.view):
                self._add(one.view, "blank", self._dim_detail(one.view), certain=False)
                continue
            self._add(
                one.view,
                "displaced",
                _displaced_detail(one),
                certain=one.shift_px is not None,
                shift_px=one.shift_px,
            )

    def _dim_detail(self, view: int) -> str:
        level, usual = self._levels.level[view], self._levels.usual_level[view]
        return f"its level is {level:.4g}, beside it {usual:.4g}, and it shows no image"

    def _add(
        self,
        view: int,
        kind: FaultKind,
        detail: str,
        *,
        certain: bool,
        other: int | None = None,
        shift_px: tuple[float, float] | None = None,
    ) -> None:
        angle = float(self._angles[view])
        self.found[view] = ViewFault(view, kind, detail, certain, other, shift_px, angle)


def _is_at_the_top(view: int, statistics: Sequence[ViewStatistics]) -> bool:
    """Return whether a constant view has the largest value of all, far above what is usual."""
    value = statistics[view].low
    others = [s for s in statistics if not is_constant(s)]
    if not others or not math.isfinite(value):
        return False
    usual = float(np.median([abs(s.mean) for s in others]))
    return value >= max(s.high for s in others) and value > _FAR_TOO_BRIGHT * usual


def _constant_detail(view: ViewStatistics) -> str:
    return f"all its pixels are {view.low:g}" if view.low == view.high else "no pixel is a number"


def _displaced_detail(one: Displacement) -> str:
    if one.shift_px is None:
        return (
            "its image correlates with none of the views beside it, which correlate with each other"
        )
    dy, dx = one.shift_px
    return (
        f"its image is off by {dy:+.0f} rows and {dx:+.0f} columns "
        f"against the views beside it; usual is {max(one.usual_px, 0.1):.1f} pixels"
    )
