"""Findings about a tilt series: each has a name, a place and one line of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ddgm_dist.core.view_names import ViewNames
from ddgm_dist.pixels.screen import Patch

__all__ = [
    "Finding",
    "blank_rows",
    "blank_views",
    "constant",
    "dead_columns",
    "filled_edges",
    "hot_pixels",
    "left_out",
    "with_note",
]

Kind = Literal[
    "hot-pixels",
    "blank-views",
    "blank-rows",
    "filled-edges",
    "dead-columns",
    "constant",
    "left-out",
    "prior",
]
# Places that a line names.
_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """Something about the pixels that a user should know.

    Attributes
    ----------
    kind
        Kind of the finding.
    count
        Number of pixels, views, rows of views, edges, or columns of all views; 1 for a constant.
    places
        Array indices of the first few: ``(tilt, y, u)``, ``(tilt, y)``, ``(tilt,)``, first and stop of
        a box's tilts, rows and columns, or ``(u,)`` of columns of all views.
    text
        A line for people. It names views as `ddgm_dist.core.view_names.ViewNames` does.
    views
        Number from 1 of the view of each place, in the source that the series was made from.
    """

    kind: Kind
    count: int
    places: tuple[tuple[int, ...], ...]
    text: str
    views: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "kind": self.kind,
            "count": self.count,
            "array_indices": self.places,
            "views": self.views,
            "text": self.text,
        }


def with_note(findings: Sequence[Finding], names: ViewNames) -> tuple[Finding, ...]:
    """Add to the first finding that names views how they are numbered, if that is not by the source."""
    found, note = list(findings), names.note
    first = next((i for i, finding in enumerate(found) if finding.views), None)
    if note and first is not None:
        found[first] = replace(found[first], text=f"{found[first].text} ({note})")
    return tuple(found)


def hot_pixels(
    count: int,
    first: Sequence[tuple[int, int, int]],
    names: ViewNames,
    threshold: float,
    outcome: str,
) -> Finding:
    """Pixels that stand out from all around them."""
    shown = first[:_SHOWN]
    where = "; ".join(f"{names.name(t)}, row {y}, column {u}" for t, y, u in shown)
    return Finding(
        "hot-pixels",
        count,
        tuple(shown),
        f"{_counted(count, 'pixel stands', 'pixels stand')} out by more than {threshold:.3g} from all "
        f"around (hot, dead, or hit by a ray), first in {where} (rows and columns from 0)"
        f"{_more(count)}: {outcome}",
        _numbers(shown, names),
    )


def blank_views(views: Sequence[int], names: ViewNames, outcome: str) -> Finding:
    """Views that hold nothing of the specimen."""
    places = tuple((t,) for t in views[:_SHOWN])
    return Finding(
        "blank-views",
        len(views),
        places,
        f"{_counted(len(views), 'view is', 'views are')} blank, all pixels nearly equal: "
        f"{', '.join(names.name(t) for t in views[:_SHOWN])}{_more(len(views))}: {outcome}",
        _numbers(places, names),
    )


def blank_rows(patches: Sequence[Patch], names: ViewNames, outcome: str) -> Finding:
    """Rows of views all of whose pixels are equal."""
    count = sum((t1 - t0) * (y1 - y0) for t0, t1, y0, y1, _, _ in patches)
    where = "; ".join(_place(p, names, columns=False) for p in patches[:_SHOWN])
    return Finding(
        "blank-rows",
        count,
        tuple(patches[:_SHOWN]),
        f"{_counted(count, 'row of a view is', 'rows of views are')} blank, all pixels equal: {where} "
        f"(rows from 0){_more(len(patches))}: {outcome}",
        _numbers(patches, names),
    )


def filled_edges(patches: Sequence[Patch], names: ViewNames, value: float, outcome: str) -> Finding:
    """Columns at the edges of views that hold one value, as alignment leaves them."""
    where = "; ".join(_place(p, names) for p in patches[:_SHOWN])
    return Finding(
        "filled-edges",
        len(patches),
        tuple(patches[:_SHOWN]),
        f"{_counted(len(patches), 'edge of a view is', 'edges of views are')} filled with a constant "
        f"({value:.4g}): {where} (rows and columns from 0){_more(len(patches))}: {outcome}",
        _numbers(patches, names),
    )


def dead_columns(columns: Sequence[int], outcome: str) -> Finding:
    """Columns that hold one value in each view, as those of a detector that do not work."""
    shown = tuple(columns[:_SHOWN])
    return Finding(
        "dead-columns",
        len(columns),
        tuple((u,) for u in shown),
        f"{_counted(len(columns), 'column has', 'columns have')} one value in all rows of each view, "
        f"and those beside do not: column {', '.join(map(str, shown))} (from 0){_more(len(columns))}: "
        f"{outcome}",
    )


def constant(level: float, mean: float, outcome: str) -> Finding:
    """A constant in every pixel, beside the specimen's own mean at zero tilt."""
    return Finding(
        "constant",
        1,
        (),
        f"a constant of about {level:.4g} is in every pixel, where the specimen itself has about "
        f"{mean:.4g} at zero tilt: {outcome}",
    )


def left_out(lines: Sequence[tuple[int, int]], names: ViewNames) -> Finding:
    """Rows of views, ``(tilt, y)``, that the estimates of mean, deviation and noise leave out."""
    where = "; ".join(f"{names.name(t)}, row {y}" for t, y in lines[:_SHOWN])
    return Finding(
        "left-out",
        len(lines),
        tuple(lines[:_SHOWN]),
        f"{_counted(len(lines), 'row of a view is', 'rows of views are')} unlike the same row of other "
        f"views, or constant: {where} (rows from 0){_more(len(lines))}: left out of the estimates of "
        "mean, std and sigma_y, but not masked",
        _numbers(lines, names),
    )


def _numbers(places: Sequence[tuple[int, ...]], names: ViewNames) -> tuple[int, ...]:
    return tuple(names.number(place[0]) for place in places[:_SHOWN])


def _counted(count: int, one: str, several: str) -> str:
    return f"1 {one}" if count == 1 else f"{count} {several}"


def _more(count: int) -> str:
    return ", ..." if count > _SHOWN else ""


def _place(patch: Patch, names: ViewNames, *, columns: bool = True) -> str:
    t0, t1, y0, y1, u0, u1 = patch
    views = (
        names.name(t0) if t1 == t0 + 1 else f"views {names.number(t0)} to {names.number(t1 - 1)}"
    )
    place = f"{views}, {_range('row', y0, y1)}"
    return f"{place}, {_range('column', u0, u1)}" if columns else place


def _range(name: str, first: int, stop: int) -> str:
    return f"{name} {first}" if stop == first + 1 else f"{name}s {first} to {stop - 1}"
