"""Options of an ingest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ddgm_dist.errors import InputError

__all__ = ["Angles", "Counts", "IngestOptions", "Polarity", "TiltAxis"]

TiltAxis = Literal["rows", "columns"]
Polarity = Literal["dark", "bright"]
Angles = str | Path | Sequence[float]
Counts = float | Path | Literal["auto", "none"]

# Pixels of an edge are few; a larger factor is a slip of the finger.
_MOST_BIN = 64


@dataclass(frozen=True)
class IngestOptions:
    """Options of an ingest, as `ddgm_dist.ingest` describes them; sizes are in the source's pixels."""

    angles: Angles | None = None
    xf: Path | Literal["none"] | None = None
    tilt_axis: TiltAxis = "rows"
    tilt_axis_angle: float | None = None
    axis_column: float | None = None
    angle_offset: float | None = None
    thickness: int | None = None
    pixel_size_nm: float | None = None
    rows: slice | None = None
    columns: slice | None = None
    bin: int = 1
    counts: Counts | None = None
    dark: float | Path | None = None
    flat: float | Path | None = None
    log: bool = False
    polarity: Polarity | None = None
    exclude: tuple[int, ...] = ()
    max_angle: float | None = None
    strict: bool = False
    despike: bool = True
    impute_nonfinite: bool = False
    dataset: str | None = None
    description: str = ""

    def __post_init__(self) -> None:
        """Refuse values out of their bounds, and options that contradict each other."""
        if self.tilt_axis not in ("rows", "columns"):
            raise InputError("tilt_axis", self.tilt_axis, "must be 'rows' or 'columns'")
        if self.polarity not in (None, "dark", "bright"):
            raise InputError("polarity", str(self.polarity), "must be 'dark' or 'bright'")
        if not (isinstance(self.bin, int) and 1 <= self.bin <= _MOST_BIN):
            raise InputError("bin", self.bin, f"must be a whole number from 1 to {_MOST_BIN}")
        for name in ("tilt_axis_angle", "axis_column", "angle_offset", "max_angle", "counts"):
            value = getattr(self, name)
            if isinstance(value, int | float) and not math.isfinite(value):
                raise InputError(name, value, "must be a number")
        if self.max_angle is not None and not 0 < self.max_angle <= 90:
            raise InputError("max_angle", self.max_angle, "must be above 0 and at most 90 degrees")
        if isinstance(self.counts, int | float) and self.counts <= 0:
            raise InputError(
                "counts", self.counts, "must be positive: the counts of the beam without a specimen"
            )
        if self.tilt_axis == "columns" and self.tilt_axis_angle is not None:
            raise InputError(
                "tilt_axis_angle",
                self.tilt_axis_angle,
                "says where the tilt axis is, and so does tilt_axis: columns",
                "give one of them; columns is the angle -90",
            )
        if self.polarity == "bright" and (self.log or self.counts not in (None, "none")):
            raise InputError(
                "polarity",
                "bright",
                "says that the signal adds up along the ray, without logarithm",
            )
        if self.log and self.counts not in (None, "none"):
            raise InputError(
                "log", "true", "takes a logarithm, and so does counts: give one of them"
            )
        bad = [view for view in self.exclude if view < 1]
        if bad:
            raise InputError("exclude", bad[0], "must be the number of a view, from 1")
