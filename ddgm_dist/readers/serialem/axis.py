"""The tilt axis in a metadata file, which programs and their versions write in several ways.

SerialEM writes a title ``Tilt axis angle = 84.1, ...``, the sections' RotationAngle less 90 degrees; 180
may be added, as its user set. Thermo Fisher's Tomography writes ``TiltAxisAngle = ...``.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from ddgm_dist.errors import InputError
from ddgm_dist.readers.serialem.sections import Autodoc
from ddgm_dist.readers.text import number, shown

__all__ = ["tilt_axis", "title_number"]

_log = logging.getLogger("ddgm_dist")

_AXIS = re.compile(r"(tilt axis angle|tiltaxisangle)\s*=\s*([^\s,;]+(?:,\d+)?)", re.IGNORECASE)
_SAME_AXIS = 0.051  # degrees; titles have one decimal
_SAME_ROTATION = 0.11


def tilt_axis(document: Autodoc, path: Path) -> tuple[float | None, str]:
    """The tilt axis, degrees from the vertical, counter-clockwise, and where it comes from.

    Returns
    -------
    tuple
        None and an empty text if no title and no entry gives it.

    Raises
    ------
    InputError
        It is no number, or titles and entries contradict each other.
    """
    found = [m.groups() for title in document.titles if (m := _AXIS.search(title))]
    found += [
        ("TiltAxisAngle", word)
        for section in (document.globals, *document.sections)
        if (word := section.text("TiltAxisAngle")) is not None
    ]
    axes = [(name, title_number(word, "the tilt axis", path)) for name, word in found]
    if not axes:
        return None, ""
    if max(abs(_turned(axis - axes[0][1])) for _, axis in axes) > _SAME_AXIS:
        given = ", ".join(f"{axis:g}" for axis in sorted({axis for _, axis in axes}))
        raise InputError(
            "mdoc", str(path), f"gives the tilt axis angles {given}", "remove what is wrong"
        )
    name, axis = axes[0]
    rotation = next(
        (r for s in document.sections if (r := s.number("RotationAngle")) is not None), None
    )
    if " " in name or rotation is None:
        return axis, name
    return _thermo_fisher(axis, rotation, path)


def title_number(word: str, what: str, path: Path) -> float:
    """A number in a title; InputError if it is none."""
    try:
        return number(word)
    except ValueError as error:
        raise InputError("mdoc", str(path), f"gives {what} as {shown(word)}: {error}") from error


def _thermo_fisher(axis: float, rotation: float, path: Path) -> tuple[float, str]:
    """The axis, degrees, that is meant by ``TiltAxisAngle`` with a section's RotationAngle.

    Versions of Thermo Fisher's Tomography differ in sign and direction. Which one wrote the file
    follows from the two angles; the three cases are those of IMOD's program header.
    """
    if abs(_turned(-(rotation + 90) - axis)) < _SAME_ROTATION:
        return rotation, "RotationAngle, since TiltAxisAngle is minus that minus 90"
    if abs(_turned(rotation - 90 - axis)) < _SAME_ROTATION:
        return axis, "TiltAxisAngle"
    if abs(_turned(90 - rotation - axis)) < _SAME_ROTATION:
        return -axis, "TiltAxisAngle with its sign corrected, after RotationAngle"
    _log.warning(
        "%s: TiltAxisAngle %g and RotationAngle %g agree in no known way: the first is taken",
        *(path, axis, rotation),
    )
    return axis, "TiltAxisAngle"


def _turned(degrees: float) -> float:
    """The same angle from -180 to 180."""
    return (degrees + 180) % 360 - 180
