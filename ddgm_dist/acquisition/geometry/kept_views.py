"""The views that are kept of a source, and those that are mirrored."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ddgm_dist.acquisition.geometry.alignment import Alignment
from ddgm_dist.acquisition.options import IngestOptions
from ddgm_dist.errors import InputError
from ddgm_dist.tilts.metadata import MAX_ANGLE_DEG
from ddgm_dist.tilts.provenance import LeftOut, Provenance, ranges
from ddgm_dist.views.angles_range import fold, full_range_hint, too_steep

__all__ = ["choose_views", "find_excluded"]


def find_excluded(found: Alignment, options: IngestOptions, views: int) -> list[tuple[int, str]]:
    """Views that options or files leave out.

    Parameters
    ----------
    found
        Alignment of the images.
    options
        Options of the ingest.
    views
        Number of views of the source.

    Returns
    -------
    list
        ``(view, why)``, views from 0, in order.

    Raises
    ------
    InputError
        There is no such view.
    """
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


def choose_views(
    nominal: Sequence[float | None],
    excluded: Sequence[tuple[int, str]],
    options: IngestOptions,
    record: Provenance,
    origin: str,
) -> tuple[list[int], list[bool]]:
    """Choose the views that are kept, and those that are mirrored.

    Parameters
    ----------
    nominal
        Angle of each view of the source, degrees; None where it is unknown.
    excluded
        ``(view, why)`` for views that are left out already, from 0.
    options
        Options of the ingest.
    record
        Takes the views that are left out or mirrored.
    origin
        Name of the file of the angles.

    Returns
    -------
    tuple
        Views that are kept, from 0, and for each view of the source if it is mirrored.

    Raises
    ------
    InputError
        No view is left, or a view is too steep.
    """
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
