"""Tilt angles: tables of them, and whether they can be those of a tilt series."""

from __future__ import annotations

import itertools
import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.errors import InputError
from ddgm_dist.readers.text import check_whole, number, read_text, shown

__all__ = ["as_angles", "check_angles", "read_angles"]

_log = logging.getLogger("ddgm_dist")

_ONE = "write one angle per line, with a decimal point"
_COMMA = re.compile(r"[-+]?\d+,\d+")
# Radians: no angle beyond a right one, and a range that would be a tilt series as radians.
# Degrees: angles that lie so close together show no depth.
_SAME = 0.01
_NOT_FINITE = ("nan", "inf", "infinity")
_RADIANS, _FEW = (1.0, math.pi / 2 + 0.03), 5
# Radians of half a turn or a whole one: so many views so close together are no tilt series.
_TURN, _MANY = (3.0, 2 * math.pi + 0.03), 20


def read_angles(path: str | Path) -> tuple[float, ...]:
    """Tilt angles, degrees, from a ``.tlt``, ``.rawtlt``, ``.txt``, ``.csv`` or ``.npy`` file.

    Text has one angle per line, or all on one line with either commas or spaces between them. A list
    may be wrapped over several lines with spaces alone, if it does not look like a table. ``#``
    starts a comment; a ``.csv`` file may begin with the name of its column. UTF-8 or UTF-16;
    exponents may be written with D. ``nan`` is read as such and refused later, with the number of
    the tilt.

    Raises
    ------
    InputError
        The file is missing; it holds something else than numbers, or a table of several columns; or
        commas may be between numbers or within them.
    """
    file = Path(path)
    try:
        if file.suffix == ".npy":
            return as_angles(np.load(file, allow_pickle=False), str(path))
    except InputError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            "angles", str(path), f"is not a readable list of angles ({error})", "one per line"
        ) from error
    text = read_text(file, "angles", hint=_ONE)
    lines = [(i, line.split("#")[0].strip()) for i, line in enumerate(text.split("\n"), 1)]
    lines = [(i, line) for i, line in lines if line]
    if file.suffix.lower() == ".csv" and lines and re.fullmatch(r"[^\d,;]+", lines[0][1]):
        lines = lines[1:]
    if len(lines) == 1:
        return _one_line(*lines[0], str(path))
    angles = _wrapped(lines) or tuple(_one(i, line, len(lines), str(path)) for i, line in lines)
    check_whole(text, [line.replace(",", " ").split() for _, line in lines], "angles", file)
    return angles


def as_angles(values: NDArray[Any] | Sequence[Any], where: str) -> tuple[float, ...]:
    """An array or list as angles.

    Raises
    ------
    InputError
        It is not one list of real numbers.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of different lengths
        raise InputError("angles", where, f"must be a list of numbers ({error})") from error
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise InputError(
            "angles",
            where,
            f"must be a list of numbers; it is {array.shape} of {array.dtype}",
            "give the column of angles alone" if array.ndim == 2 else "",
        )
    return tuple(float(a) for a in array)


def check_angles(angles: Sequence[float], where: str) -> None:
    """Refuse angles, degrees, that no tilt series has; warn of those that are given twice.

    Angles that are not finite, too steep, or not one per tilt are left to the check of the store.

    Parameters
    ----------
    angles
        One per tilt.
    where
        The file or the argument that they come from, for messages.

    Raises
    ------
    InputError
        All are the same, or they are radians.
    """
    if len(angles) < 2 or not all(math.isfinite(a) for a in angles):
        return
    if max(angles) - min(angles) < _SAME:
        raise InputError(
            "angles",
            where,
            f"all {len(angles)} angles are {angles[0]:g} degrees, within {_SAME:g}",
            "give one angle for each tilt, as it was set or measured",
        )
    widest, span = max(abs(a) for a in angles), max(angles) - min(angles)
    different = len({*angles})
    if any(
        different >= few and widest <= high and span >= low
        for few, (low, high) in ((_FEW, _RADIANS), (_MANY, _TURN))
    ):
        raise InputError(
            "angles",
            where,
            f"lie between {min(angles):g} and {max(angles):g}: these are radians, or angles too "
            "close together to show depth",
            "give degrees: multiply by 57.29578",
        )
    first: dict[float, int] = {}
    twice = [(first[a], i) for i, a in enumerate(angles) if first.setdefault(a, i) != i]
    if twice:
        one, other = twice[0]
        more = f", and so do {len(twice) - 1} others" if len(twice) > 1 else ""
        _log.warning(
            "%s: tilts %d and %d have the same angle, %g degrees%s: right if the view was repeated",
            *(where, one, other, angles[one], more),
        )


def _one_line(number: int, line: str, path: str) -> tuple[float, ...]:
    """The angles of a file of one line; commas are between them or in them, not both."""
    if "," in line and re.search(r"[^\s,]\s+[^\s,]", line):
        raise InputError(
            "angles",
            path,
            f"line {number} has both commas and spaces between numbers: {shown(line)}",
            _ONE,
        )
    if _COMMA.fullmatch(line):
        one, two = line.replace(",", "."), line.replace(",", " ")
        raise InputError(
            "angles",
            path,
            f"line {number} is {shown(line)}: one angle with a decimal comma, or two angles?",
            f"write {one} for one, {two} for two",
        )
    words = line.replace(",", " ").split()
    return tuple(_number(word, number, path) for word in words)


def _wrapped(lines: list[tuple[int, str]]) -> tuple[float, ...]:
    """The angles of a list that is wrapped at its spaces; none if it is no such list.

    In a table every line has as many numbers. So has a list of which the last line is full; that is one
    if its angles only rise, or only fall. A line of one number that is not the last is of no such list.
    """
    rows = [line.split() for _, line in lines]
    try:
        angles = [_float(word) for row in rows for word in row]
    except ValueError:  # reading line by line reports it with its line
        return ()
    steps = [b - a for a, b in itertools.pairwise(angles)]
    if all(step > 0 for step in steps) or all(step < 0 for step in steps):
        return tuple(angles)
    widths = [len(row) for row in rows]
    if min(widths[:-1], default=1) < 2 or len({*widths}) == 1:
        return ()
    return tuple(angles)


def _one(number: int, line: str, lines: int, path: str) -> float:
    """The angle of one of several lines."""
    words = line.replace(",", " ").replace(";", " ").split()
    if len(words) != 1:
        comma = _COMMA.fullmatch(line)
        why = "is that a decimal comma?" if comma else "a table of more than one column is not read"
        raise InputError(
            "angles",
            path,
            f"line {number} of {lines} holds {len(words)} numbers, {shown(line)}: {why}",
            f"write {line.replace(',', '.')}, with a decimal point" if comma else _ONE,
        )
    return _number(words[0], number, path)


def _number(word: str, line: int, path: str) -> float:
    try:
        return _float(word)
    except ValueError as error:
        raise InputError(
            "angles",
            path,
            f"is not a readable list of angles: {shown(word)} in line {line} is no number",
            _ONE,
        ) from error


def _float(word: str) -> float:
    """A number, or one that is not finite and is refused later; ValueError if it is neither."""
    return float(word) if word.lower().lstrip("+-") in _NOT_FINITE else number(word)
