"""Names of views for people: the number that a view has in its source, and its angle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ViewNames", "degrees"]


@dataclass(frozen=True)
class ViewNames:
    """Names of the views of a stored series.

    Attributes
    ----------
    angles_deg
        Tilt angle of each stored view, degrees; empty where they are unknown.
    numbers
        Number from 1 of each stored view in the source that it was made from, as ``--exclude`` takes
        it. None where that is unknown: then stored views are numbered from 1.
    """

    angles_deg: tuple[float, ...] = ()
    numbers: tuple[int, ...] | None = None

    def number(self, index: int) -> int:
        """Number from 1 of the view at an index of the array."""
        return index + 1 if self.numbers is None else self.numbers[index]

    def name(self, index: int) -> str:
        """Name of the view at an index of the array: ``view 31 (-45 degrees)``."""
        return f"view {self._short(index)}"

    def listed(self, indices: Sequence[int], shown: int) -> str:
        """The first ``shown`` of several views: ``31 (-45 degrees), 7 (+3 degrees), ...``."""
        more = ", ..." if len(indices) > shown else ""
        return ", ".join(self._short(i) for i in indices[:shown]) + more

    @property
    def note(self) -> str:
        """Note on how views are numbered where their numbers in the source are unknown, or nothing."""
        return "" if self.numbers is not None else "views are numbered from 1 as they are stored"

    def _short(self, index: int) -> str:
        number = self.number(index)
        if not self.angles_deg:
            return str(number)
        return f"{number} ({degrees(self.angles_deg[index])})"


def degrees(angle: float | None) -> str:
    """An angle with its sign, for tables."""
    if angle is None or not math.isfinite(angle):
        return "unknown angle"
    return f"{angle:+.4g} degrees"
