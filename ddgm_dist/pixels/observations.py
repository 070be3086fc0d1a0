"""Suspect pixels of a tilt series, and which of them are no measurement of a given specimen.

`Observations` are a function of the pixels alone, small, and can be written as JSON: they are made once
(`ddgm_dist.pixels.scan`). The specimen's geometry decides which bright pixels are hot, and which equal
columns at the detector's ends were filled in. `Observations.judge` says so without the pixels.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.pixels.artifacts import Artifacts, Places, runs_of
from ddgm_dist.pixels.filled_edges import Edge, are_filled
from ddgm_dist.pixels.screen import Patch
from ddgm_dist.pixels.tracks import specimen_rows

__all__ = ["COMMON", "Observations", "share_elsewhere"]

# A value that so many of a view's other pixels have is data: vacuum, or few counts.
COMMON = 0.1
# Edges take at most so much of a view, where shares of the rest are counted.
_MOST_TAKEN = 0.9
_SHOWN = 3

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Observations:
    """Pixels that may be no measurement, before they are judged.

    Attributes
    ----------
    shape
        ``(tilt, y, u)`` of the series.
    threshold
        Distance by which a hot pixel stands out, in the data's unit; None if it could not be estimated.
    hot
        Indices of the pixels that do, in the flattened series, ascending; if they are too many, only
        of the first few.
    count
        Number of pixels that do.
    crowded
        Whether that is more than faults could be; then counting stopped.
    blank
        Views all of whose pixels are equal, or nearly so and far from the other views.
    rows
        Rows of other views all of whose pixels are equal.
    edges
        Columns at the ends of rows that hold one value, by tilt and side.
    """

    shape: tuple[int, int, int]
    threshold: float | None
    hot: tuple[int, ...] | Numbers
    count: int
    crowded: bool
    blank: tuple[int, ...]
    rows: tuple[Patch, ...]
    edges: tuple[Edge, ...]

    def judge(self, geometry: Geometry, *, known: bool = True) -> Artifacts:
        """The pixels that are no measurement.

        Parameters
        ----------
        geometry
            Geometry of the series: how a specimen moves from view to view. The edges of an isolated one
            are vacuum, and rows may be empty.
        known
            True if the specimen is known to be as the geometry says.
        """
        height, field = self.shape[1:]
        vacuum = known and geometry.boundary == "vacuum"
        kept = [] if vacuum else [e for e in self.edges if not _is_data(e, known=known)]
        edges, unsure = list[Patch](), list[Patch]()
        filled = [are_filled([e for e in kept if e.side == side], geometry) for side in (0, 1)]
        for edge in kept:
            columns = (0, edge.width) if edge.side == 0 else (field - edge.width, field)
            edges.append((edge.tilt, edge.tilt + 1, 0, height, *columns))
            if not filled[edge.side]:
                unsure.append(edges[-1])
        hot, specimen, spared = self._judge_hot(geometry)
        return Artifacts(
            hot=hot,
            kept=specimen,
            spared=spared,
            crowded=self.crowded,
            threshold=self.threshold,
            blank=self.blank,
            rows=() if vacuum else self.rows,
            edges=tuple(edges),
            unsure=tuple(unsure),
            edge_value=kept[0].value if kept else 0.0,
            shape=self.shape,
        )

    def _judge_hot(self, geometry: Geometry) -> tuple[Places, Places, tuple[tuple[int, int], ...]]:
        """Pixels that are hot, those that may be the specimen's, and the rows of these."""
        tilt, row, column = np.unravel_index(np.asarray(self.hot, dtype=np.int64), self.shape)
        if self.crowded:
            first = _first(tilt, row, column)
            return Places(0, ()), Places(self.count, first), ((0, self.shape[1]),)
        spared = np.zeros(self.shape[1], dtype=bool)
        spared[specimen_rows(tilt, row, column, geometry)] = True
        mine = spared[row]
        hot, kept = (
            Places(int(chosen.sum()), _first(tilt[chosen], row[chosen], column[chosen]))
            for chosen in (~mine, mine)
        )
        return hot, kept, tuple(runs_of(spared, 0, len(spared))) if mine.any() else ()

    def to_dict(self) -> dict[str, Any]:
        """JSON values; indices of pixels as differences, compressed."""
        steps = np.diff(np.asarray(self.hot, dtype="<i8"), prepend=0).astype("<i8")
        return {**asdict(self), "hot": base64.b64encode(zlib.compress(steps.tobytes())).decode()}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Observations:
        """Restore observations from `to_dict`.

        Raises
        ------
        KeyError, TypeError, ValueError
            The values are not such a dictionary.
        """
        try:
            data = base64.b64decode(values["hot"])
            # No more than there can be: the file may be anybody's.
            steps = np.frombuffer(
                zlib.decompressobj().decompress(data, 8 * (values["count"] + 1)), dtype="<i8"
            )
        except zlib.error as error:
            raise ValueError(str(error)) from error
        a, b, c = values["shape"]
        return Observations(
            shape=(a, b, c),
            threshold=values["threshold"],
            hot=np.cumsum(steps),
            count=values["count"],
            crowded=values["crowded"],
            blank=tuple(values["blank"]),
            rows=tuple(_patch(row) for row in values["rows"]),
            edges=tuple(Edge(**edge) for edge in values["edges"]),
        )


def share_elsewhere(share: float, taken: float) -> float:
    """Share of a view's pixels that hold a value, besides a part ``taken`` of it that does."""
    return (share - taken) / (1 - taken) if taken < 1 else 0.0


def _is_data(edge: Edge, *, known: bool) -> bool:
    """Return whether many of the view's other pixels hold the edge's value."""
    # The margins of an unknown specimen may be vacuum.
    taken = min(_MOST_TAKEN, edge.taken) if known else 0.0
    return share_elsewhere(edge.share, taken) >= COMMON


def _first(tilt: Numbers, row: Numbers, column: Numbers) -> tuple[tuple[int, int, int], ...]:
    """The first few pixels in the order of the rows."""
    order = np.lexsort((column, tilt, row))[:_SHOWN]
    places = zip(tilt[order].tolist(), row[order].tolist(), column[order].tolist(), strict=True)
    return tuple(places)


def _patch(values: Sequence[int]) -> Patch:
    t0, t1, y0, y1, u0, u1 = values
    return t0, t1, y0, y1, u0, u1
