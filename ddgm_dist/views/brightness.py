"""Views without an image, or with one that is cut off: rules on levels, held against views beside them.

Levels change with the angle, as the path through the specimen does. So each view is compared with the
median of those nearest in angle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.views.statistics import QUANTILES, ViewStatistics

__all__ = ["Levels", "is_constant", "levels", "saturated_share"]

_BESIDE = 3
_LOW, _MIDDLE, _HIGH = (QUANTILES.index(q) for q in (0.01, 0.5, 0.99))
# Least share at the largest value that counts, and how many times that of the other views.
_SATURATED, _MORE = 0.02, 5.0
_SEEN = 0.01

Wide = NDArray[np.float64]


@dataclass(frozen=True)
class Levels:
    """Levels of each view, and what the views beside it have.

    Attributes
    ----------
    level, usual_level
        Median of the pixels; stored units.
    spread, usual_spread
        Between the 1 % and 99 % quantiles.
    image, usual_image
        The same of the thumbnail between 5 % and 95 %, where noise is averaged out.
    """

    level: Wide
    usual_level: Wide
    spread: Wide
    usual_spread: Wide
    image: Wide
    usual_image: Wide

    def is_off(self, view: int) -> bool:
        """True if the level is off by more than half, and by more than half of the usual spread."""
        off = abs(self.level[view] - self.usual_level[view])
        return bool(off > 0.5 * max(abs(self.usual_level[view]), self.usual_spread[view]))

    def is_shut(self, view: int) -> bool:
        """True if the view holds next to nothing: no beam reached the detector."""
        little = self.spread[view] < 0.25 * self.usual_spread[view]
        return bool(self.is_off(view) and little and self.is_faint(view))

    def is_faint(self, view: int) -> bool:
        """True if there is much less of an image than in the views beside it."""
        return bool(self.image[view] < 0.5 * self.usual_image[view])

    def is_dim(self, view: int) -> bool:
        """True if the view is faint, and its level is off or a third of the usual one."""
        dark = abs(self.level[view]) < abs(self.usual_level[view]) / 3
        return self.is_faint(view) and bool(dark or self.is_off(view))

    def is_even(self, view: int) -> bool:
        """True if the view varies so little that it is as good as constant."""
        even = self.spread[view] < 0.02 * self.usual_spread[view]
        return bool(even and self.image[view] < 0.1 * self.usual_image[view])

    def brighter(self, view: int) -> float:
        """Factor by which the level exceeds the usual one; 0 where levels are no brightness.

        Levels that are small beside how much the views vary, as those of normalised views, are none.
        """
        usual = float(self.usual_level[view])
        return float(self.level[view]) / usual if usual > 0.5 * self.usual_spread[view] else 0.0


def is_constant(view: ViewStatistics) -> bool:
    """True if all pixels are equal, or none is a number."""
    return not view.high > view.low


def levels(statistics: Sequence[ViewStatistics], order: Sequence[int]) -> Levels:
    """Compare the levels of views with those nearest in angle.

    Parameters
    ----------
    statistics
        One of each view.
    order
        Views that count, in the order of their angles.
    """
    of = np.full((3, len(statistics)), np.nan)
    for view in order:
        quantiles = statistics[view].quantiles
        thumbnail = statistics[view].thumbnail
        there = thumbnail[np.isfinite(thumbnail)].astype(np.float64)
        image = float(np.subtract(*np.quantile(there, (0.95, 0.05)))) if there.size else 0.0
        of[:, view] = quantiles[_MIDDLE], quantiles[_HIGH] - quantiles[_LOW], image
    usual = np.full_like(of, np.nan)
    everywhere = np.median(of[:, list(order)], axis=1) if order else usual[:, 0]
    for k, view in enumerate(order):
        # Six of them, also at the ends; three bad ones among them do not matter.
        first = min(max(0, k - _BESIDE), max(0, len(order) - 2 * _BESIDE - 1))
        beside = [other for other in order[first : first + 2 * _BESIDE + 1] if other != view]
        usual[:, view] = np.median(of[:, beside], axis=1) if beside else everywhere
    return Levels(of[0], usual[0], of[1], usual[1], of[2], usual[2])


def saturated_share(statistics: Sequence[ViewStatistics], view: int) -> float:
    """Share of a view's pixels at its largest value, if that is much more than in other views; else 0.

    Where few pixels have it, and where most views do the same, nothing is cut off.
    """
    own = statistics[view]
    others = [one for k, one in enumerate(statistics) if k != view and not is_constant(one)]
    share = own.at_high
    if not others or is_constant(own) or share < _SATURATED:
        return 0.0
    usual = float(np.median([one.at_high for one in others]))
    bright = float(np.median([one.quantiles[_HIGH] for one in others]))
    return share if share > max(_SEEN, _MORE * usual) and own.high >= bright else 0.0
