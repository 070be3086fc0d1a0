"""Artifacts of a tilt series: which of them are masked, and what is reported of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.view_names import ViewNames
from ddgm_dist.pixels.findings import (
    Finding,
    blank_rows,
    blank_views,
    filled_edges,
    hot_pixels,
    with_note,
)
from ddgm_dist.pixels.screen import Patch, Screen

__all__ = ["Artifacts", "Places", "runs_of"]

# Patches that are masked at most; what has more is no fault but what the data are.
_MOST_PATCHES = 4096


@dataclass(frozen=True)
class Places:
    """Some pixels: how many, and ``(tilt, y, u)`` of the first few in the order of the rows."""

    count: int
    first: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Artifacts:
    """Pixels that stand out or are equal, and which of them are no measurement.

    Attributes
    ----------
    hot, kept
        Pixels that stand out, and those that do so as small points of a specimen would.
    spared
        First and stop of detector rows of the latter: no pixel in them is taken for hot.
    crowded
        Whether so many stand out that they are what the data are; then they are not counted on.
    threshold
        Smallest distance by which they stand out; None if it could not be estimated.
    blank
        Views all of whose pixels are equal, or nearly so and far from the other views.
    rows
        Rows of other views all of whose pixels are equal.
    edges
        Columns at the edges of views that hold one value, and ``edge_value``, of the first.
    unsure
        Edges that may be vacuum beside a specimen.
    """

    hot: Places
    kept: Places
    spared: tuple[tuple[int, int], ...]
    crowded: bool
    threshold: float | None
    blank: tuple[int, ...]
    rows: tuple[Patch, ...]
    edges: tuple[Patch, ...]
    unsure: tuple[Patch, ...]
    edge_value: float
    shape: tuple[int, int, int]

    def screen(self) -> Screen | None:
        """The rule that masks pixels that are no measurement; None if nothing is masked.

        It masks blank views, unless most are blank, and edges that were filled in. It masks blank rows
        that most of the views measure, as values that no view measured must not be made up.
        """
        tilts, height, field = self.shape
        patches = list[Patch]()
        if 2 * len(self.blank) < tilts:
            patches += [(t, t + 1, 0, height, 0, field) for t in self.blank]
        missing = np.zeros(height, dtype=int)
        for _, _, y0, y1, _, _ in self.rows:
            missing[y0:y1] += 1
        measured = 2 * missing < tilts
        for t0, t1, y0, y1, u0, u1 in self.rows:
            patches += [(t0, t1, a, b, u0, u1) for a, b in runs_of(measured, y0, y1)]
        unsure = set(self.unsure)
        patches += [edge for edge in self.edges if edge not in unsure]
        if len(patches) > _MOST_PATCHES:
            patches = []
        if not self.hot.count:
            return Screen(None, tuple(patches)) if patches else None
        return Screen(self.threshold, tuple(patches), self.spared)

    def findings(
        self, names: ViewNames, *, masked: str, kept: str = "left as they are"
    ) -> tuple[Finding, ...]:
        """A line for each kind that was found.

        Parameters
        ----------
        names
            Names of the views.
        masked, kept
            Outcome for pixels that the screen masks, and for those that it does not.
        """
        found = list[Finding]()
        if self.threshold is not None:
            if self.hot.count:
                found.append(
                    hot_pixels(self.hot.count, self.hot.first, names, self.threshold, masked)
                )
            if self.kept.count:
                why = "other views show them too, as small points of a specimen"
                if self.crowded:
                    why = "or more; so many are no faults but what the data are"
                outcome = f"{kept} ({why})"
                found.append(
                    hot_pixels(self.kept.count, self.kept.first, names, self.threshold, outcome)
                )
        screen = self.screen()
        patches = set() if screen is None else set(screen.patches)
        _, height, field = self.shape
        if self.blank:
            whole = (self.blank[0], self.blank[0] + 1, 0, height, 0, field)
            found.append(blank_views(self.blank, names, masked if whole in patches else kept))
        if self.rows:
            some = [p for p in patches if p[3] - p[2] < height and p[5] - p[4] == field]
            whole_count = sum(y1 - y0 for _, _, y0, y1, _, _ in self.rows)
            count = sum(y1 - y0 for _, _, y0, y1, _, _ in some)
            outcome = masked if count == whole_count else kept
            if 0 < count < whole_count:
                outcome = f"{count} of them {masked}, the others, which few views measure, {kept}"
            found.append(blank_rows(self.rows, names, outcome))
        if self.edges:
            some_edges = len(patches.intersection(self.edges))
            outcome = masked if some_edges == len(self.edges) else kept
            if self.unsure:
                outcome = f"{kept}, for they may be vacuum beside the specimen"
            if 0 < some_edges < len(self.edges):
                outcome = f"{some_edges} of them {masked}, the others {outcome}"
            found.append(filled_edges(self.edges, names, self.edge_value, outcome))
        return with_note(found, names)


def runs_of(mask: NDArray[np.bool_], start: int, stop: int) -> list[tuple[int, int]]:
    """Runs of true values of a mask within a range: first and stop of each."""
    padded = np.concatenate([[False], mask[start:stop], [False]]).astype(np.int8)
    turns = np.flatnonzero(np.diff(padded)) + start
    return [(int(a), int(b)) for a, b in zip(turns[::2], turns[1::2], strict=True)]
