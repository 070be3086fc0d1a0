"""Values written on the command line, turned into numbers."""

from __future__ import annotations

import math
import re
from pathlib import Path

from ddgm_dist.errors import InputError

__all__ = ["MAX_ANGLES", "even_angles", "parse_angles", "parse_shape", "parse_slice"]

MAX_ANGLES = 100_000


def parse_angles(text: str, argument: str = "--angles") -> tuple[float, ...] | Path:
    """Tilt angles in degrees: ``start:stop:step`` (both ends included) or ``-60,-30,0``.

    The name of a file comes back as its path, for the library to read.

    Raises
    ------
    InputError
        If it is neither, or a range that is endless or never reaches its end.
    """
    number = r"\s*[-+]?[0-9.]+(?:e[-+]?[0-9]+)?\s*"
    if Path(text).is_file():
        return Path(text)
    if not re.fullmatch(f"{number}(?:[:,]{number})*", text, re.IGNORECASE):
        why = "is neither angles nor a file that exists"
        raise InputError(argument, text, why, "write for example -60:60:2")
    try:
        values = [float(word) for word in re.split("[:,]", text)]
    except ValueError:
        raise InputError(argument, text, "is not made of numbers") from None
    if ":" not in text:
        return tuple(values)
    if len(values) != 3 or "," in text:
        raise InputError(argument, text, "is not start:stop:step", "write for example -60:60:2")
    start, stop, step = values
    if step == 0 or (stop - start) / step < 0:
        raise InputError(argument, text, f"a step of {step:g} never leads from start to stop")
    steps = (stop - start) / step
    if steps >= MAX_ANGLES:
        raise InputError(argument, text, f"makes more than {MAX_ANGLES} angles")
    return tuple(start + step * i for i in range(math.floor(steps + 1e-6) + 1))


def even_angles(tilts: int, max_angle: float) -> tuple[float, ...]:
    """``tilts`` angles in degrees, evenly spaced from ``-max_angle`` to ``max_angle``."""
    if tilts == 1:
        return (0.0,)
    return tuple(max_angle * (2 * i / (tilts - 1) - 1) for i in range(tilts))


def parse_slice(text: str, argument: str) -> slice:
    """``start:stop`` in pixels, half-open, either end optional.

    Raises
    ------
    InputError
        If it is not such a range, or an empty one.
    """
    match = re.fullmatch(r"(\d*):(\d*)", text.strip())
    if match is None:
        raise InputError(argument, text, "is not start:stop", "write for example 0:8")
    start, stop = int(match[1] or 0), int(match[2]) if match[2] else None
    if stop is not None and stop <= start:
        raise InputError(argument, text, "holds nothing: stop must be larger than start")
    return slice(start, stop)


def parse_shape(text: str, argument: str) -> tuple[int, int, int]:
    """``Z,Y,X``: three positive numbers of voxels.

    Raises
    ------
    InputError
        If they are not.
    """
    match = re.fullmatch(r"(\d+),(\d+),(\d+)", text.strip())
    shape = (int(match[1]), int(match[2]), int(match[3])) if match else (0, 0, 0)
    if min(shape) < 1:
        raise InputError(
            argument, text, "is not three positive sizes Z,Y,X", "write for example 64,16,512"
        )
    return shape
