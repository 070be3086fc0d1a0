"""The axes of an array that holds a tilt series: which one counts the tilts, the rows, the columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.errors import InputError

__all__ = ["StackAxes", "find_axes", "split_names"]

_MEANINGS = ("tilt", "row", "column")
_TILT = re.compile(
    r"t|time|theta.*|tilts?|tilt_?angles?|angles?|.*rotation.*|rot|omega|phi|projections?|views?|"
    r"n?frames?|frame_?number|images?|index|scan|angles?_deg"
)
_ROW = re.compile(r"y|rows?|height|v|vertical|(detector|det)_?y|y_?(pixel|detector).*")
_COLUMN = re.compile(r"x|columns?|cols?|width|u|horizontal|(detector|det)_?x|x_?(pixel|detector).*")


@dataclass(frozen=True)
class StackAxes:
    """Where the axes ``(tilt, row, column)`` lie in a stored array.

    Attributes
    ----------
    stored
        Shape of the stored array.
    order
        Axis of the stored array for each of ``(tilt, row, column)``; the others have extent one.
    """

    stored: tuple[int, ...]
    order: Triple

    @property
    def shape(self) -> Triple:
        """Extent of ``(tilt, row, column)``."""
        a, b, c = self.order
        return (self.stored[a], self.stored[b], self.stored[c])

    def pick(self, sizes: Sequence[int]) -> Triple:
        """Values for the three axes, of those that are given per stored axis."""
        a, b, c = self.order
        return (sizes[a], sizes[b], sizes[c])

    def index(self, box: Box) -> tuple[slice, ...]:
        """Slices of the stored array that hold a box ``(tilt, row, column)``."""
        found = [slice(0, 1)] * len(self.stored)
        for axis, part in zip(self.order, box.slices(), strict=True):
            found[axis] = part
        return tuple(found)

    def turn(self, block: NDArray[Any]) -> NDArray[Any]:
        """A block, read by `index`, with the axes ``(tilt, row, column)``."""
        rest = [axis for axis in range(block.ndim) if axis not in self.order]
        return block.transpose(*self.order, *rest).reshape(self.pick(block.shape))


def split_names(text: object) -> list[str]:
    """Names of axes from an attribute: a list, or text with ``:`` or ``,`` between them."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if isinstance(text, str):
        return [part.strip() for part in re.split(r"[:,;]", text.strip().strip("[]"))]
    if isinstance(text, np.ndarray | list | tuple):
        parts = [
            part.decode("utf-8", "replace") if isinstance(part, bytes) else part for part in text
        ]
        return [part.strip() if isinstance(part, str) else "" for part in parts]
    return []


def find_axes(
    shape: tuple[int, ...], names: Sequence[str] | None, where: str, *, strict: bool = True
) -> StackAxes:
    """The axes of a stack by their names; without names ``(tilt, row, column)`` in this order.

    Axes of extent one beyond three are dropped: those that are not named as one of the three, and
    the first of those first.

    Parameters
    ----------
    shape
        Shape of the stored array.
    names
        Name of each axis; an empty one is not known. None where there are no names.
    where
        Name of the array, for messages.
    strict
        Whether names that contradict each other are an error; else they are not used.

    Raises
    ------
    InputError
        More or fewer than three axes remain, or two axes have names of the same meaning.
    """
    meaning = [_meaning(name) for name in names or ()]
    if len(meaning) != len(shape):
        meaning = [""] * len(shape)
    kept = _without_ones(shape, meaning)
    doubled = {m for m in _MEANINGS if [meaning[axis] for axis in kept].count(m) > 1}
    if doubled and strict:
        raise InputError(
            "source",
            where,
            f"its axes are named {list(names or ())}: two of them may count the {doubled.pop()}s",
            "correct the names, or store it as (tilt, row, column)",
        )
    if doubled:
        meaning = [""] * len(shape)
    if len(kept) != 3:
        raise InputError(
            "source", where, f"must have three axes, others of extent one; it is {shape}"
        )
    rest = [axis for axis in kept if not meaning[axis]]
    found = {meaning[axis]: axis for axis in kept if meaning[axis]}
    order = [found[m] if m in found else rest.pop(0) for m in _MEANINGS]
    return StackAxes(shape, (order[0], order[1], order[2]))


def _without_ones(shape: tuple[int, ...], meaning: Sequence[str]) -> list[int]:
    kept = list(range(len(shape)))
    for named in (False, True):
        for axis in range(len(shape)):
            if len(kept) > 3 and axis in kept and shape[axis] == 1 and bool(meaning[axis]) == named:
                kept.remove(axis)
    return kept


def _meaning(name: str) -> str:
    plain = name.strip().lower().rpartition("/")[2]
    for meaning, pattern in (("row", _ROW), ("column", _COLUMN), ("tilt", _TILT)):
        if pattern.fullmatch(plain):
            return meaning
    return ""
