"""Acquisition geometry of a tilt series, in global coordinates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ddgm_dist.errors import InputError

__all__ = ["MAX_ANGLE_DEG", "MAX_COLUMN", "MAX_ROWS", "MAX_THICKNESS", "Boundary", "Geometry"]

Boundary = Literal["extended", "vacuum"]
MAX_ANGLE_DEG = 85.0
# Largest extents whose voxels all have an address of their own (ddgm_dist.core.noise).
MAX_THICKNESS, MAX_ROWS, MAX_COLUMN = 1 << 15, 1 << 16, 1 << 30


@dataclass(frozen=True)
class Geometry:
    """Parallel-beam tilts about the y axis.

    A point (z, x) is measured from the centre (n-1)/2 of each axis. It is projected onto the detector
    coordinate ``u = x cos(theta) + z sin(theta) + dx``, measured from the detector's centre. Its
    detector row is ``y + dy``.

    Attributes
    ----------
    angles_deg
        Tilt angles in degrees, in any order and spacing; magnitude below 85.
    thickness
        Voxels along z (the beam at zero tilt).
    rows
        Detector rows, which are the volume's y.
    field
        Detector columns, which are the volume's x.
    shifts_px
        ``(dy, dx)`` per tilt in pixels; zero when empty.
    boundary
        ``extended``: the field is cut out of a wider specimen, so rays near its edges cross material
        outside it. ``vacuum``: the specimen is surrounded by vacuum.
    """

    angles_deg: tuple[float, ...]
    thickness: int
    rows: int
    field: int
    shifts_px: tuple[tuple[float, float], ...] = ()
    boundary: Boundary = "extended"

    def __post_init__(self) -> None:
        if not self.angles_deg:
            raise InputError("angles_deg", "[]", "there must be at least one tilt")
        for index, angle in enumerate(self.angles_deg):
            if not abs(angle) < MAX_ANGLE_DEG:
                raise InputError(
                    f"angles_deg[{index}]",
                    angle,
                    f"must be a number of magnitude below {MAX_ANGLE_DEG:g} degrees: "
                    "a ray along the slab never leaves it",
                    "drop that tilt, or check that the angles are in degrees",
                )
        if self.shifts_px and len(self.shifts_px) != len(self.angles_deg):
            raise InputError(
                "shifts_px",
                f"{len(self.shifts_px)} shifts",
                f"there are {len(self.angles_deg)} tilts and each needs one (dy, dx)",
            )
        for name in ("thickness", "rows", "field"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "must be at least 1 pixel")
        # The domain's columns begin below zero: a field this narrow keeps both ends in range.
        largest = {"thickness": MAX_THICKNESS, "rows": MAX_ROWS, "field": MAX_COLUMN - self.reach}
        for name, limit in largest.items():
            if getattr(self, name) > limit:
                raise InputError(
                    name,
                    getattr(self, name),
                    f"must be at most {limit} pixels: the noise has no more addresses",
                    "reconstruct it in parts",
                )

    @property
    def tilts(self) -> int:
        """Number of tilts."""
        return len(self.angles_deg)

    @property
    def angles(self) -> tuple[float, ...]:
        """Angles in radians."""
        return tuple(math.radians(a) for a in self.angles_deg)

    @property
    def reach(self) -> int:
        """Distance along x that the steepest ray covers in half the thickness, pixels."""
        steepest = max(abs(a) for a in self.angles)
        return math.ceil(self.thickness / 2 * math.tan(steepest))

    @property
    def domain(self) -> tuple[int, int]:
        """Columns ``[start, stop)`` that are solved for; the field is ``[0, field)``.

        An extended specimen continues beyond the field, so its domain is padded by ``reach`` on each
        side. A specimen in vacuum ends with the field.
        """
        pad = self.reach if self.boundary == "extended" else 0
        return (-pad, self.field + pad)

    def shift(self, tilt: int) -> tuple[float, float]:
        """``(dy, dx)`` of one tilt, pixels."""
        return self.shifts_px[tilt] if self.shifts_px else (0.0, 0.0)
