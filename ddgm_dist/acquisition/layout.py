"""The views that are kept, and where each of their pixels goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddgm_dist.acquisition.alignment import Alignment
from ddgm_dist.acquisition.alignment_files import find_alignment
from ddgm_dist.acquisition.options import IngestOptions
from ddgm_dist.acquisition.sources import Source
from ddgm_dist.acquisition.tilt_angles import find_angles
from ddgm_dist.errors import InputError
from ddgm_dist.readers.imod.commands import TiltCommand
from ddgm_dist.tilts.metadata import MAX_ANGLE_DEG
from ddgm_dist.tilts.provenance import LeftOut, Provenance, degrees, ranges
from ddgm_dist.views.affine import Affine
from ddgm_dist.views.angles_range import fold, full_range_hint, too_steep
from ddgm_dist.views.binning import binned_affine
from ddgm_dist.views.resample import share_inside

__all__ = ["Layout", "PlacedView", "lay_out"]

Pair = tuple[float, float]

# Images are binned by so much at most before they are given.
_MOST_BINNED = 16
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
    excluded = _excluded(found, options, views, record)
    angles = find_angles(source, options.angles, found, [v for v, _ in excluded], record)
    offset = _offset(found.tilt, options, record)
    nominal = [None if a is None else a + offset for a in angles.degrees]
    kept, mirrored = _kept(nominal, excluded, options, record, angles.origin)
    if options.axis_column is not None:
        if not 0 <= options.axis_column <= found.size[1] - 1:
            raise InputError(
                "axis_column",
                options.axis_column,
                f"must be a column of the images, from 0 to {found.size[1] - 1}",
            )
        middle = (found.size[1] - 1) / 2
        record.say(
            "axis",
            f"column {options.axis_column:g}, {options.axis_column - middle:+g} off the middle",
            "--axis-column",
        )
        if found.axis_moved or found.axis_offset or found.centre_x:
            record.skip("the axis by IMOD's command files", "--axis-column counts")
    b = options.bin
    size = (found.size[0] // b, found.size[1] // b)
    if min(size) < 1 or min(height, width) < b:
        raise InputError("bin", b, f"is more than the {height} x {width} pixels of an image")
    placed = []
    for index in kept:
        affine = found.affines[index]
        if mirrored[index]:
            affine = affine.then(Affine(a11=-1.0))
        affine, rest = _binned(affine, (height, width), found.size, b)
        angle = nominal[index]
        assert angle is not None, "views without an angle are left out"
        angle = angle if options.max_angle is None else fold([angle])[0][0]
        shift = _shift(source, found, options, index, angle, mirrored=mirrored[index])
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
        _pixel_size(source, options, record),
        _thickness(source, found, options, record),
        _counts_by(source, found),
    )


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


def _excluded(
    found: Alignment, options: IngestOptions, views: int, record: Provenance
) -> list[tuple[int, str]]:
    """Views to be left out, from 0, and why."""
    reasons = dict[int, str]()
    for view in options.exclude:
        if view > views:
            raise InputError("exclude", view, f"is no view of the {views} of the source")
        reasons[view - 1] = "--exclude"
    if found.tilt is not None:
        tilt = found.tilt
        for view in (*tilt.excluded, *tilt.included):
            if view > views:
                raise InputError("exclude", view, f"{found.tilt_name} names view {view} of {views}")
        out = set(tilt.excluded)
        if tilt.included:
            out |= set(range(1, views + 1)) - set(tilt.included)
        for view in out:
            reasons.setdefault(view - 1, f"left out by {found.tilt_name}")
    if found.aln is not None:
        present = {view.stored_index for view in found.aln.views}
        for index in range(views):
            if index not in present:
                reasons.setdefault(index, f"no view of {found.aln_name} (dark, or removed)")
    return sorted(reasons.items())


def _offset(tilt: TiltCommand | None, options: IngestOptions, record: Provenance) -> float:
    """Degrees to be added to all angles."""
    if options.angle_offset is not None:
        if tilt is not None and tilt.angle_offset_deg:
            record.skip("OFFSET of the tilt command", "--angle-offset counts")
        record.say("angle offset", degrees(options.angle_offset), "--angle-offset")
        return options.angle_offset
    if tilt is not None and tilt.angle_offset_deg and options.angles is not None:
        record.skip("OFFSET of the tilt command", "angles are given: see --angle-offset")
    elif tilt is not None and tilt.angle_offset_deg:
        record.say("angle offset", degrees(tilt.angle_offset_deg), "OFFSET of the tilt command")
        return tilt.angle_offset_deg
    return 0.0


def _kept(
    nominal: Sequence[float | None],
    excluded: Sequence[tuple[int, str]],
    options: IngestOptions,
    record: Provenance,
    origin: str,
) -> tuple[list[int], list[bool]]:
    """Views that are kept, from 0, and for each view of the source if it is mirrored."""
    why = dict(excluded)
    mirrored = [False] * len(nominal)
    for index, angle in enumerate(nominal):
        if index in why:
            continue
        if angle is None:
            why[index] = f"{origin} has no angle of it"
        elif options.max_angle is not None and math.isfinite(angle):
            folded, flags = fold([angle])
            if abs(folded[0]) > options.max_angle:
                why[index] = f"steeper than --max-angle {options.max_angle:g}"
            mirrored[index] = flags[0]
    kept = [i for i in range(len(nominal)) if i not in why]
    if not kept:
        raise InputError(
            "source", f"{len(nominal)} views", "all of them are left out", "leave out fewer"
        )
    for index, reason in sorted(why.items()):
        record.left_out.append(LeftOut(index + 1, nominal[index], reason))
    if sum(mirrored):
        record.say(
            "mirrored views",
            ranges([i + 1 for i in kept if mirrored[i]]),
            "rays of an angle beyond 90 degrees are those of the angle less 180",
        )
    steep = too_steep([nominal[i] or 0.0 for i in kept])
    if steep and options.max_angle is None:
        view = kept[steep[0]]
        raise InputError(
            "angles_deg",
            nominal[view],
            f"view {view + 1} must be below {MAX_ANGLE_DEG:g} degrees either way (a ray along the slab "
            "never leaves it)",
            full_range_hint([nominal[i] or 0.0 for i in kept]) or "check the angles",
        )
    return kept, mirrored


def _binned(
    affine: Affine, before: tuple[int, int], after: tuple[int, int], factor: int
) -> tuple[Affine, Pair]:
    """The map of binned images, and the shift that remains where it moves no pixel."""
    if factor == 1:
        return affine, (0.0, 0.0)
    if affine.is_identity and before == after:
        # Rows and columns that are left over at the end move the centre.
        height, width = before
        return affine, (height % factor / (2 * factor), width % factor / (2 * factor))
    # Of whole blocks, so that the axis stays in the middle of the binned image.
    whole = (after[0] // factor * factor, after[1] // factor * factor)
    return binned_affine(affine, before, whole, factor), (0.0, 0.0)


def _shift(
    source: Source,
    found: Alignment,
    options: IngestOptions,
    index: int,
    angle: float,
    *,
    mirrored: bool,
) -> Pair:
    """Shift of a view that the operator takes into account, pixels of the aligned image."""
    dy, dx = source.shifts_px[index] if source.shifts_px is not None else (0.0, 0.0)
    sign = -1.0 if mirrored else 1.0
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    dx *= sign
    # IMOD moves the slab up by SHIFT's z. At the angle of a mirrored view cosine and sine have the
    # opposite sign, and so has u.
    dx += found.shift_z * sin
    if options.axis_column is not None:  # in place of what files say of the axis
        return dy, dx + sign * (options.axis_column - (found.size[1] - 1) / 2)
    dx += sign * found.axis_moved
    # Images whose middle lies beside the axis show the specimen there, as cropped columns do.
    dx += sign * found.centre_x * (sign * cos - 1)
    # It turns the slab about an axis that OFFSET moves along x.
    dx += sign * found.axis_offset * (1 - sign * cos)
    return dy, dx


def _pixel_size(source: Source, options: IngestOptions, record: Provenance) -> float | None:
    """Edge of a pixel of the series, nm."""
    mdoc = source.mdoc
    candidates = [
        (options.pixel_size_nm, "--pixel-size"),
        (source.pixel_size_nm, source.pixel_from),
        (None if mdoc is None else mdoc.pixel_size_nm, "" if mdoc is None else mdoc.path.name),
    ]
    size, origin = next(((s, o) for s, o in candidates if s is not None), (None, ""))
    if size is None:
        record.say("pixel size", "unknown", "neither given nor found")
        return None
    binned = size * options.bin
    record.say("pixel size", f"{binned:.4g} nm ({10 * binned:.4g} angstrom)", origin)
    for other, name in candidates:
        if other is not None and not _same_size(other, size, exact=origin == "--pixel-size"):
            line = f"pixel size: {name} says {other:.4g} nm, {origin} {size:.4g} nm, which is used"
            record.warnings.append(line)
    return binned


def _same_size(one: float, other: float, *, exact: bool) -> bool:
    """Return whether two pixel sizes are those of one image, which may have been binned since.

    A factor of ten is one of angstrom and nanometres.
    """
    ratio = max(one, other) / min(one, other)
    whole = round(ratio)
    binned = whole == 1 if exact else whole <= _MOST_BINNED and whole != 10
    return binned and abs(ratio - whole) <= 0.02 * ratio


def _thickness(
    source: Source, found: Alignment, options: IngestOptions, record: Provenance
) -> int | None:
    """Thickness of the slab, pixels of the series."""
    candidates = [
        (options.thickness, "--thickness"),
        (found.thickness, found.tilt_name or found.aln_name),
        (source.thickness_px, Path(source.path).name),
    ]
    value, origin = next(((v, o) for v, o in candidates if v is not None), (None, ""))
    if value is None:
        record.say("thickness", "unknown", "plan and reconstruct will ask for --thickness")
        return None
    if value < 1:
        raise InputError("thickness_px", value, "must be at least 1 pixel")
    thickness = max(1, round(value / options.bin))
    record.say("thickness", f"{thickness} voxels", origin)
    return thickness


def _part(name: str, part: slice | None, extent: int) -> range:
    """The indices kept of an axis; contiguous, not empty and within it."""
    start, stop = (0, extent) if part is None else (part.start or 0, part.stop)
    stop = extent if stop is None else stop
    step = None if part is None else part.step
    if not 0 <= start < stop <= extent or step not in (None, 1):
        raise InputError(name, f"{start}:{stop}", f"must be start:stop within 0:{extent}")
    return range(start, stop)
