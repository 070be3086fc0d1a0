"""The interface of a restorer."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Acquisition"]


@dataclass(frozen=True)
class Acquisition:
    """The geometry that a restorer is given.

    Attributes
    ----------
    angles_deg
        Tilt angles, degrees, in any order.
    thickness
        Voxels along the beam at zero tilt.
    """

    angles_deg: tuple[float, ...]
    thickness: int
