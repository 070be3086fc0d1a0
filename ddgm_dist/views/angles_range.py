"""Angles beyond what a slab allows, and those of a specimen that was turned by half a turn.

A point (z, x) is seen at ``u = x cos(theta) + z sin(theta)``. At ``theta - 180`` degrees both factors
change their sign, so u does. Thus in a parallel beam each view is the mirror image of the one half a
turn away. A view at 120 degrees serves as one at -60 degrees once it is mirrored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ddgm_dist.core.geometry import MAX_ANGLE_DEG
from ddgm_dist.errors import InputError

__all__ = ["fold", "full_range_hint", "too_steep"]

# What the hint suggests: as most tilt series reach.
_SUGGESTED = 60.0


def too_steep(angles_deg: Sequence[float], limit: float = MAX_ANGLE_DEG) -> tuple[int, ...]:
    """Views, from 0, whose angle is no number of magnitude below the limit, degrees."""
    return tuple(view for view, angle in enumerate(angles_deg) if not abs(angle) < limit)


def fold(angles_deg: Sequence[float]) -> tuple[tuple[float, ...], tuple[bool, ...]]:
    """Turn angles by half turns into the range from -90 (included) to 90 (excluded) degrees.

    Parameters
    ----------
    angles_deg
        Angles, degrees.

    Returns
    -------
    angles
        Folded angles. Those within the range are left as they are, to the bit.
    mirrored
        Whether the view must be mirrored about the tilt axis, ``u -> -u``, to be one at that angle.

    Raises
    ------
    InputError
        If an angle is not finite.
    """
    folded, mirrored = list[float](), list[bool]()
    for index, angle in enumerate(angles_deg):
        if not math.isfinite(angle):
            raise InputError(f"angles_deg[{index}]", angle, "must be a finite number")
        turns = math.floor((angle + 90) / 180)
        left = angle - 180 * turns if turns else float(angle)
        if left >= 90:  # rounding, just below a multiple
            left, turns = left - 180, turns + 1
        elif left < -90:
            left, turns = left + 180, turns - 1
        folded.append(left)
        mirrored.append(turns % 2 == 1)
    return tuple(folded), tuple(mirrored)


def full_range_hint(angles_deg: Sequence[float]) -> str | None:
    """A sentence for a series with views that no slab allows; None if there is none.

    It says how many views ``--max-angle`` keeps, counted after `fold`.
    """
    steep = too_steep(angles_deg)
    if not steep or not all(math.isfinite(angle) for angle in angles_deg):
        return None
    folded, _ = fold(angles_deg)
    kept = sum(abs(angle) <= _SUGGESTED for angle in folded)
    low, high = min(angles_deg), max(angles_deg)
    said = (
        f"{len(steep)} of {len(angles_deg)} views are at {MAX_ANGLE_DEG:g} degrees or beyond "
        f"(from {low:g} to {high:g}), where rays run along the slab"
    )
    if not kept:
        return f"{said}: check that the angles are in degrees, and 0 is perpendicular to the slab"
    if max(abs(angle) for angle in angles_deg) > 90:
        said += "; a view beyond 90 degrees is the mirror image of the one half a turn back"
    return (
        f"{said}: --max-angle {_SUGGESTED:g} keeps {kept} views within {_SUGGESTED:g} degrees of 0"
    )
