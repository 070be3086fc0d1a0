"""The views that are kept, and where each of their pixels goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddgm_dist.acquisition.geometry.alignment import Alignment
from ddgm_dist.acquisition.geometry.find_alignment import find_alignment
from ddgm_dist.acquisition.geometry.kept_views import choose_views, find_excluded
from ddgm_dist.acquisition.geometry.placement import place_binned, shift_of
from ddgm_dist.acquisition.geometry.scale import find_pixel_size, find_thickness
from ddgm_dist.acquisition.geometry.tilt_angles import find_angles, find_offset
from ddgm_dist.acquisition.options import IngestOptions
from ddgm_dist.acquisition.source import Source
from ddgm_dist.errors import InputError
from ddgm_dist.tilts.provenance import LeftOut, Provenance
from ddgm_dist.views.affine import Affine
from ddgm_dist.views.angles_range import fold
from ddgm_dist.views.resample import share_inside

__all__ = ["Layout", "PlacedView", "lay_out"]

Pair = tuple[float, float]

# Share of the usual view below which something is wrong with the alignment.
_LITTLE = 0.5


@dataclass(frozen=True)
class PlacedView:
    """A view that is kept.

    Attributes
    ----------
    index
        Its place in the source, from 0.
    angle_deg
        Tilt angle, degrees.
    affine
        Map from the binned image to the aligned one.
    shift_px
        ``(dy, dx)`` that remains after it, pixels of the series.
    """

    index: int
    angle_deg: float
    affine: Affine
    shift_px: Pair


@dataclass(frozen=True)
class Layout:
    """Geometry of the series.

    Attributes
    ----------
    views
        Views that are kept.
    size
        Rows and columns of the aligned images, before cropping.
    y, u
        Rows and columns that are kept of them.
    pixel_size_nm, thickness_px
        As in the store.
    counts_by
        Name of the file that says that the images are counts of a transmission; empty without one.
    """

    views: tuple[PlacedView, ...]
    size: tuple[int, int]
    y: range
    u: range
    pixel_size_nm: float | None
    thickness_px: int | None
    counts_by: str = ""

    @property
    def shifts_px(self) -> tuple[Pair, ...] | None:
        """Shifts of the kept views and columns, for the store; None where there are none."""
        x0 = (self.u.start + self.u.stop - self.size[1]) / 2
        shifts = tuple(
            (dy, dx + x0 * (math.cos(math.radians(v.angle_deg)) - 1))
            for v in self.views
            for dy, dx in [v.shift_px]
        )
        return shifts if any(shift != (0.0, 0.0) for shift in shifts) else None


def lay_out(source: Source, options: IngestOptions, record: Provenance) -> Layout:
    """Decide which views are kept, their angles, and where their pixels go.

    Parameters
    ----------
    source
        The open source and the files beside it.
    options
        Options of the ingest.
    record
        Takes where everything comes from.

    Raises
    ------
    InputError
        Files contradict each other or the source, or what they ask for cannot be done.
    """
    views, height, width = source.stack.shape
    record.say(
        "images", f"{views} of {height} x {width}", f"{Path(source.path).name} ({source.kind})"
    )
    found = find_alignment(source, options, record)
    excluded = find_excluded(found, options, views)
    angles = find_angles(source, options.angles, found, [v for v, _ in excluded], record)
    offset = find_offset(found.tilt, options, record)
    nominal = [None if a is None else a + offset for a in angles.degrees]
    kept, mirrored = choose_views(nominal, excluded, options, record, angles.origin)
    if options.axis_column is not None:
        _heed_axis_column(options.axis_column, found, record)
    b = options.bin
    size = (found.size[0] // b, found.size[1] // b)
    if min(size) < 1 or min(height, width) < b:
        raise InputError("bin", b, f"is more than the {height} x {width} pixels of an image")
    placed = []
    for index in kept:
        affine = found.affines[index]
        if mirrored[index]:
            affine = affine.then(Affine(a11=-1.0))
        affine, rest = place_binned(affine, (height, width), found.size, b)
        angle = nominal[index]
        assert angle is not None, "views without an angle are left out"
        angle = angle if options.max_angle is None else fold([angle])[0][0]
        shift = shift_of(source, found, options, index, angle, mirrored=mirrored[index])
        placed.append(
            PlacedView(index, angle, affine, (shift[0] / b + rest[0], shift[1] / b + rest[1]))
        )
    y, u = _part("rows", options.rows, size[0]), _part("columns", options.columns, size[1])
    placed = _seen(placed, (height // b, width // b), size, y, u, record)
    if b > 1:
        record.say("binning", f"{b} x {b} pixels", "--bin")
    return Layout(
        tuple(placed),
        size,
        y,
        u,
        find_pixel_size(source, options, record),
        find_thickness(source, found, options, record),
        _counts_by(source, found),
    )


def _heed_axis_column(column: float, found: Alignment, record: Provenance) -> None:
    """Note that the user's column of the axis counts.

    Raises
    ------
    InputError
        The images have no such column.
    """
    if not 0 <= column <= found.size[1] - 1:
        raise InputError(
            "axis_column",
            column,
            f"must be a column of the images, from 0 to {found.size[1] - 1}",
        )
    middle = (found.size[1] - 1) / 2
    record.say(
        "axis",
        f"column {column:g}, {column - middle:+g} off the middle",
        "--axis-column",
    )
    if found.axis_moved or found.axis_offset or found.centre_x:
        record.skip("the axis by IMOD's command files", "--axis-column counts")


def _seen(
    placed: Sequence[PlacedView],
    before: tuple[int, int],
    size: tuple[int, int],
    y: range,
    u: range,
    record: Provenance,
) -> list[PlacedView]:
    """The views of which a part lies within the stored images; warns where little of them does."""
    part = slice(y.start, y.stop), slice(u.start, u.stop)
    shares = [share_inside(view.affine, before, size, part) for view in placed]
    kept = [view for view, share in zip(placed, shares, strict=True) if share > 0]
    for view, share in zip(placed, shares, strict=True):
        if share == 0:
            why = "its aligned image lies beyond the part that is stored"
            record.left_out.append(LeftOut(view.index + 1, view.angle_deg, why))
    if len(kept) < len(placed):
        record.warnings.append(f"{len(placed) - len(kept)} views lie beyond the stored images")
    if not kept:
        raise InputError(
            "source",
            f"{len(placed)} views",
            "no aligned image shows a part of what is to be stored",
            "check the shifts of the .xf or .aln, --rows and --columns",
        )
    usual = sorted(shares)[len(shares) // 2]
    if usual < _LITTLE:
        record.warnings.append(
            f"only {100 * usual:.0f} % of the pixels of the usual view are measured: the alignment may "
            "be that of other images"
        )
    return kept


def _counts_by(source: Source, found: Alignment) -> str:
    """Name of a file that says that the images are counts; empty without one."""
    if found.tilt is not None and found.tilt.log is not None:
        return f"LOG in {found.tilt_name}"
    return "" if source.mdoc is None else source.mdoc.path.name


def _part(name: str, part: slice | None, extent: int) -> range:
    """The indices kept of an axis; contiguous, not empty and within it."""
    start, stop = (0, extent) if part is None else (part.start or 0, part.stop)
    stop = extent if stop is None else stop
    step = None if part is None else part.step
    if not 0 <= start < stop <= extent or step not in (None, 1):
        raise InputError(name, f"{start}:{stop}", f"must be start:stop within 0:{extent}")
    return range(start, stop)
