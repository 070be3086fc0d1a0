"""Findings about a tilt series: each has a name, a place and one line of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ddgm_dist.pixels.screen import Patch

__all__ = [
    "Finding",
    "blank_rows",
    "blank_views",
    "constant",
    "filled_edges",
    "hot_pixels",
    "left_out",
]

Kind = Literal[
    "hot-pixels", "blank-views", "blank-rows", "filled-edges", "constant", "left-out", "prior"
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
        Number of pixels, views, rows of views, or edges; 1 for a constant.
    places
        The first few: ``(tilt, y, u)``, ``(tilt, y)``, ``(tilt,)``, or first and stop of a box's tilts,
        rows and columns.
    text
        A line for people.
    """

    kind: Kind
    count: int
    places: tuple[tuple[int, ...], ...]
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def hot_pixels(
    count: int, first: Sequence[tuple[int, int, int]], threshold: float, outcome: str
) -> Finding:
    """Pixels that stand out from all around them."""
    where = ", ".join(str(place) for place in first[:_SHOWN])
    return Finding(
        "hot-pixels",
        count,
        tuple(first[:_SHOWN]),
        f"{_counted(count, 'pixel stands', 'pixels stand')} out by more than {threshold:.3g} from all "
        f"around (hot, dead, or hit by a ray), first at (tilt, y, u) = {where}"
        f"{_more(count)}: {outcome}",
    )


def blank_views(views: Sequence[int], angles_deg: Sequence[float], outcome: str) -> Finding:
    """Views that hold nothing of the specimen."""
    where = ", ".join(f"tilt {t} ({angles_deg[t]:g} degrees)" for t in views[:_SHOWN])
    return Finding(
        "blank-views",
        len(views),
        tuple((t,) for t in views[:_SHOWN]),
        f"{_counted(len(views), 'view is', 'views are')} blank, all pixels nearly equal: {where}"
        f"{_more(len(views))}: {outcome}",
    )


def blank_rows(patches: Sequence[Patch], outcome: str) -> Finding:
    """Rows of views all of whose pixels are equal."""
    count = sum((t1 - t0) * (y1 - y0) for t0, t1, y0, y1, _, _ in patches)
    where = "; ".join(_place(p, columns=False) for p in patches[:_SHOWN])
    return Finding(
        "blank-rows",
        count,
        tuple(patches[:_SHOWN]),
        f"{_counted(count, 'row of a view is', 'rows of views are')} blank, all pixels equal: {where}"
        f"{_more(len(patches))}: {outcome}",
    )


def filled_edges(patches: Sequence[Patch], value: float, outcome: str) -> Finding:
    """Columns at the edges of views that hold one value, as alignment leaves them."""
    where = "; ".join(_place(p) for p in patches[:_SHOWN])
    return Finding(
        "filled-edges",
        len(patches),
        tuple(patches[:_SHOWN]),
        f"{_counted(len(patches), 'edge of a view is', 'edges of views are')} filled with a constant "
        f"({value:.4g}): {where}{_more(len(patches))}: {outcome}",
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


def left_out(lines: Sequence[tuple[int, int]]) -> Finding:
    """Rows of views, ``(tilt, y)``, that the estimates of mean, deviation and noise leave out."""
    patches = [(t, t + 1, y, y + 1, 0, 0) for t, y in lines[:_SHOWN]]
    where = "; ".join(_place(p, columns=False) for p in patches)
    return Finding(
        "left-out",
        len(lines),
        tuple(lines[:_SHOWN]),
        f"{_counted(len(lines), 'row of a view is', 'rows of views are')} unlike the same row of other "
        f"views, or constant: {where}{_more(len(lines))}: left out of the estimates of mean, std and "
        "sigma_y, but not masked",
    )


def _counted(count: int, one: str, several: str) -> str:
    return f"1 {one}" if count == 1 else f"{count} {several}"


def _more(count: int) -> str:
    return ", ..." if count > _SHOWN else ""


def _place(patch: Patch, *, columns: bool = True) -> str:
    t0, t1, y0, y1, u0, u1 = patch
    place = f"{_range('tilt', t0, t1)}, {_range('row', y0, y1)}"
    return f"{place}, {_range('column', u0, u1)}" if columns else place


def _range(name: str, first: int, stop: int) -> str:
    return f"{name} {first}" if stop == first + 1 else f"{name}s {first} to {stop - 1}"
