"""Names by which arrays beside a tilt series are known: its angles, its flats and its darks."""

from __future__ import annotations

import re

__all__ = [
    "ANGLE_NAMES",
    "DARK_NAMES",
    "FLAT_NAMES",
    "KEY_NAMES",
    "is_no_image",
    "is_reference",
    "reference_kind",
    "unit_by_name",
]

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
# Of NXtomo: they say which images are projections, flats and darks.
KEY_NAMES = ("image_key_control", "image_key")
_WHEN = r"(_?(\d+|pre|post|before|after|start|end))?"
_KINDS = {
    kind: re.compile(rf"({'|'.join(names)}){_WHEN}")
    for kind, names in (("dark", DARK_NAMES), ("flat", FLAT_NAMES))
}
# Words in the names of images that are no recorded ones: masks, and what is known of the noise.
_NO_IMAGES = (
    *(
        "mask",
        "masks",
        "pixelmask",
        "bad",
        "badpixels",
        "dead",
        "hot",
        "defect",
        "defects",
        "valid",
    ),
    *("std", "stddev", "sigma", "var", "variance", "err", "error", "errors", "rms", "noise"),
    *("weight", "weights"),
)


def is_reference(name: str) -> bool:
    """Return whether an array has the name of flats or darks.

    >>> is_reference("data_white"), is_reference("flats_post"), is_reference("flat_corrected")
    (True, True, False)
    """
    return bool(reference_kind(name))


def reference_kind(name: str) -> str:
    """``dark`` or ``flat`` by the name of an array; empty where it is the name of neither.

    >>> reference_kind("dark_pre"), reference_kind("data_white"), reference_kind("data")
    ('dark', 'flat', '')
    """
    return next((kind for kind, names in _KINDS.items() if names.fullmatch(name)), "")


def is_no_image(name: str) -> bool:
    """Return whether an array has the name of a mask, or of a measure of the noise.

    >>> is_no_image("pixel_mask"), is_no_image("dark_std"), is_no_image("data")
    (True, True, False)
    """
    return any(word in _NO_IMAGES for word in re.split(r"[^a-z0-9]+", name.lower()))


def unit_by_name(name: str) -> str:
    """The unit of angle that a name ends with; empty where it ends with none."""
    ending = name.rpartition("_")[2]
    return ending if ending in ("deg", "rad") else ""
