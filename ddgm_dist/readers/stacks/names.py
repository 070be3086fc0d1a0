"""Names by which arrays beside a tilt series are known: its angles, its flats and its darks."""

from __future__ import annotations

import re

__all__ = ["ANGLE_NAMES", "DARK_NAMES", "FLAT_NAMES", "is_reference", "unit_by_name"]

# The first that is there counts.
ANGLE_NAMES = (
    "rotation_angle",
    "rotation_angles",
    "tilt_angles",
    "tilt_angle",
    "angles_deg",
    "angles_rad",
    "angles",
    "theta",
    "thetas",
    "angle",
)
FLAT_NAMES = ("data_white", "white", "flats", "flat", "flat_field", "bright_field", "flatfield")
DARK_NAMES = ("data_dark", "dark", "darks", "dark_field", "darkfield")
_REFERENCE = re.compile(
    rf"({'|'.join((*FLAT_NAMES, *DARK_NAMES))})(_?(\d+|pre|post|before|after|start|end))?"
)


def is_reference(name: str) -> bool:
    """Return whether an array has the name of flats or darks.

    >>> is_reference("data_white"), is_reference("flats_post"), is_reference("flat_corrected")
    (True, True, False)
    """
    return _REFERENCE.fullmatch(name) is not None


def unit_by_name(name: str) -> str:
    """The unit of angle that a name ends with; empty where it ends with none."""
    ending = name.rpartition("_")[2]
    return ending if ending in ("deg", "rad") else ""
