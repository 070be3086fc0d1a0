"""Text labels of an MRC header, where SerialEM notes the tilt axis."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["axis_in_labels"]

_FIRST, _BYTES = 224, 800
_AXIS = re.compile(r"tilt\s*axis\s*angle\s*=\s*([-+]?\d+(?:\.\d+)?)", re.IGNORECASE)


def axis_in_labels(path: Path) -> float | None:
    """Angle of the tilt axis from the vertical, degrees, that the labels state; None without one."""
    with path.open("rb") as file:
        file.seek(_FIRST)
        text = file.read(_BYTES).decode("latin-1")
    found = _AXIS.search(text)
    return None if found is None else float(found[1])
