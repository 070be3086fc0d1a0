"""The tilt angle of each view of a source: which file counts, and whether the files agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddgm_dist.acquisition.geometry.alignment import Alignment
from ddgm_dist.acquisition.options import Angles, IngestOptions
from ddgm_dist.acquisition.source import FRAMES, Source
from ddgm_dist.errors import InputError
from ddgm_dist.readers.angles import as_angles, check_angles, read_angles
from ddgm_dist.readers.imod.commands import TiltCommand
from ddgm_dist.tilts.provenance import Provenance, degrees

__all__ = ["TiltAngles", "find_angles", "find_offset"]

# Refined angles differ from nominal ones by less, but for a common offset.
_SAME_DEG = 1.5
# Smaller differences are those of rounding.
_SHOWN_DEG = 0.005


@dataclass(frozen=True)
class TiltAngles:
    """Angles of all views of a source.

    Attributes
    ----------
    degrees
        One per stored view; None for views that the file says nothing of.
    origin
        The file or option that they come from.
    """

    degrees: tuple[float | None, ...]
    origin: str


def find_angles(
    source: Source,
    given: Angles | None,
    found: Alignment,
    excluded: Sequence[int],
    record: Provenance,
) -> TiltAngles:
    """The angle of each stored view, degrees.

    Refined angles come before nominal ones: given ones, AreTomo's, ``.tlt``, ``.rawtlt``, the mdoc, and
    what the source itself states. Others are compared with them.

    Parameters
    ----------
    source
        The open source.
    given
        Angles given by the user.
    found
        Alignment of the images, which may have angles of its own.
    excluded
        Views that are left out, from 0. Given angles may leave them out, too.
    record
        Takes where the angles come from.

    Raises
    ------
    InputError
        There are none, or as many as there are views of no kind.
    """
    views = source.stack.shape[0]
    candidates = _candidates(source, given, found, views)
    if not candidates:
        raise InputError(
            "angles",
            "none",
            f"{source.path} comes without tilt angles (in it, or in a .tlt, .rawtlt, .mdoc or .aln "
            "file beside it)",
            "give --angles FILE, one angle in degrees per line",
        )
    chosen = _fitted(candidates[0], views, excluded)
    check_angles([a for a in chosen.degrees if a is not None], chosen.origin)
    known = [a for a in chosen.degrees if a is not None]
    span = f"{min(known):.4g} to {max(known):.4g} degrees" if known else "none"
    record.say("tilt angles", f"{len(known)}, {span}", chosen.origin)
    if given is not None and source.companions is not None:
        for path in (source.companions.tlt, source.companions.rawtlt):
            if path is not None:
                record.skip(path.name, "angles are given")
    for other in candidates[1:]:
        _compare(chosen, other, views, record)
    return chosen


def _candidates(
    source: Source, given: Angles | None, alignment: Alignment, views: int
) -> list[TiltAngles]:
    found = list[TiltAngles]()
    if isinstance(given, str | Path):
        found.append(TiltAngles(read_angles(given), f"{Path(given).name} (--angles)"))
    elif given is not None:
        found.append(TiltAngles(as_angles(list(given), "as given"), "as given"))
    if alignment.aln is not None:
        by_view: list[float | None] = [None] * views
        for view in alignment.aln.views:
            by_view[view.stored_index] = view.tilt_deg
        found.append(TiltAngles(tuple(by_view), alignment.aln_name))
    named = alignment.tilt_file
    if named is not None and given is None:
        found.append(TiltAngles(read_angles(named), f"{named.name}, by {alignment.tilt_name}"))
    beside = source.companions
    for path in (beside.tlt, beside.rawtlt) if beside is not None else ():
        # A damaged file that is not used must be no obstacle.
        if path is not None and (not found or given is None):
            found.append(TiltAngles(read_angles(path), path.name))
    if source.mdoc is not None and source.kind != FRAMES:
        sections = source.mdoc.by_stack(views)
        angles = tuple(None if s is None else s.tilt_deg for s in sections)
        if any(a is not None for a in angles):
            found.append(TiltAngles(angles, source.mdoc.path.name))
    if source.angles_deg is not None:
        found.append(TiltAngles(source.angles_deg, source.angles_from))
    return found


def _fitted(angles: TiltAngles, views: int, excluded: Sequence[int]) -> TiltAngles:
    """One angle for each stored view, or a refusal."""
    count, left = len(angles.degrees), views - len(set(excluded))
    if count == views:
        return angles
    if count == left:
        by_view: list[float | None] = [None] * views
        kept = [i for i in range(views) if i not in set(excluded)]
        for i, angle in zip(kept, angles.degrees, strict=True):
            by_view[i] = angle
        return TiltAngles(tuple(by_view), angles.origin)
    more = (
        "an angle for each stored view is wanted, also for those to be left out (--exclude)"
        if count < views
        else "leave out angles of views that are not in the stack, or give --angles FILE"
    )
    raise InputError(
        "angles_deg",
        f"{count} angles",
        f"{angles.origin} has {count}, the source {views} views",
        more,
    )


def _compare(chosen: TiltAngles, other: TiltAngles, views: int, record: Provenance) -> None:
    """Note angles that are not used, and warn where they disagree by more than an offset."""
    if len(other.degrees) != views:
        record.skip(
            other.origin, f"its {len(other.degrees)} angles are not one for each of {views} views"
        )
        return
    pairs = [
        (a, b)
        for a, b in zip(chosen.degrees, other.degrees, strict=True)
        if a is not None and b is not None
    ]
    if not pairs:
        return
    mine, theirs = np.array(pairs).T
    apart = mine - theirs
    worst = float(np.abs(apart - np.median(apart)).max())
    if worst <= _SAME_DEG:
        more = float(np.median(theirs - mine))
        same = f"as those of {chosen.origin}"
        if abs(more) >= _SHOWN_DEG:
            same += f", but {more:+.4g} degrees"
        if worst >= _SHOWN_DEG:
            same += f", within {worst:.2g}"
        record.skip(other.origin, f"angles: {same}")
        return
    reverse = np.sort(theirs)
    same = np.abs(np.sort(mine) - reverse).max() <= _SAME_DEG
    negative = np.abs(mine + theirs).max() <= _SAME_DEG
    why = f"its angles are up to {worst:.3g} degrees from those of {chosen.origin}"
    if negative:
        why = f"its angles have the opposite sign of those of {chosen.origin}"
    elif same:
        why = f"it has the angles of {chosen.origin} in another order"
    record.skip(other.origin, why)
    record.warnings.append(f"{other.origin}: {why}; {chosen.origin} is used")


def find_offset(tilt: TiltCommand | None, options: IngestOptions, record: Provenance) -> float:
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
