"""Choice of the array that holds a dark or flat field: by the names of all, else by their sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.errors import InputError
from ddgm_dist.readers.stacks.names import (
    ANGLE_NAMES,
    DARK_NAMES,
    FLAT_NAMES,
    is_no_image,
    reference_kind,
)

__all__ = ["FieldArray", "choose_field", "fields_by_name"]

_EXACT = {"dark": DARK_NAMES, "flat": FLAT_NAMES}
# Arrays that a message names.
_SHOWN = 5
# A group in which some detectors keep their own corrections and masks.
_OWN = "detectorspecific"


@dataclass(frozen=True)
class FieldArray:
    """An array of real numbers: its path in the file, shape, kind of dtype, and how it is loaded."""

    path: str
    shape: tuple[int, ...]
    kind: str
    load: Callable[[], NDArray[Any]]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2].lower()

    @property
    def field(self) -> str:
        """``dark`` or ``flat`` by its name, or by that of its group; empty where it has neither."""
        group = self.path.rpartition("/")[0].rpartition("/")[2].lower()
        return reference_kind(self.name) or (reference_kind(group) if self.name == "data" else "")

    def fits(self, size: tuple[int, int]) -> bool:
        """Return whether its last axes are the rows and columns of such images."""
        return self.shape[-2:] == size

    def may_hold(self, size: tuple[int, int]) -> bool:
        """Return whether two of its axes, in whatever order, are as long as such images."""
        return not Counter(size) - Counter(self.shape)

    def is_mask(self) -> bool:
        """Return whether its name or its values, 0 and one other, are those of a mask."""
        if is_no_image(self.name):
            return True
        if self.kind == "f":
            return False
        values = self.load()
        top = values.max()
        return bool(top > 0 and np.all((values == 0) | (values == top)) and values.min() == 0)


def fields_by_name(found: Sequence[FieldArray], argument: str) -> list[FieldArray]:
    """Arrays with the very name of a field; where there are none, those with a name such as dark_pre."""
    named = [a for a in found if a.field == argument and len(a.shape) in (2, 3)]
    return [a for a in named if a.name in _EXACT[argument]] or named


def choose_field(
    found: Sequence[FieldArray], place: Path, size: tuple[int, int], argument: str
) -> FieldArray | None:
    """The array that holds a field.

    An array with the name of the field goes first. Else a stack counts before single images, which
    may be masks or measures of the noise; it must be the only one, and no projections by the angles
    beside it.

    Parameters
    ----------
    found
        All arrays of real numbers in the file.
    place
        The file, for messages.
    size
        Rows and columns of the images that it belongs to.
    argument
        ``dark`` or ``flat``: which of them is wanted.

    Returns
    -------
    FieldArray or None
        None if no array may be an image: then the file is read as a stack.

    Raises
    ------
    InputError
        It is not clear which array is meant, or none fits.
    """
    found = [a for a in found if _OWN not in a.path.lower().split("/")]
    named = fields_by_name(found, argument)
    if named:
        fitting = [a for a in named if a.fits(size)]
        if not fitting:
            _refuse_size(named, place, size, argument)
        return _only(fitting, place, argument)
    others = [a for a in found if a.field not in ("", argument)]
    unnamed = [a for a in found if not a.field]
    stacks = [a for a in unnamed if len(a.shape) > 2 and not is_no_image(a.name)]
    single = [a for a in unnamed if len(a.shape) == 2 and min(a.shape) > 1]
    # Beside a field of the other kind lies anything, but no field of this one without its name.
    if others:
        raise _nothing_named(others, place, argument, "")
    frames = [a for a in stacks if a.may_hold(size)]
    images = [a for a in single if a.fits(size)]
    if frames:
        if len(frames) == 1 and _has_angles(found, frames[0]):
            raise _nothing_named(frames, place, argument, " with their angles")
        return _only(frames if len(frames) == 1 else frames + images, place, argument)
    recorded = [a for a in images if not a.is_mask()]
    if images and not recorded:
        raise _nothing_named(images, place, argument, ", a mask or a measure of the noise")
    if recorded:
        return _only(recorded, place, argument)
    if single and not stacks:
        _refuse_size(single, place, size, argument)
    return None


def _only(arrays: Sequence[FieldArray], place: Path, argument: str) -> FieldArray:
    if len(arrays) == 1:
        return arrays[0]
    raise InputError(
        argument,
        str(place),
        f"holds {len(arrays)} arrays that may be meant: {_paths(arrays)}",
        f"name one of them {argument!r}, or give it in a file of its own",
    )


def _refuse_size(
    arrays: Sequence[FieldArray], place: Path, size: tuple[int, int], argument: str
) -> NoReturn:
    shapes = ", ".join(f"{a.path} of {a.shape[-2:]}" for a in arrays[:_SHOWN])
    raise InputError(
        argument, str(place), f"holds images {shapes}, and the source of {size} pixels"
    )


def _nothing_named(
    arrays: Sequence[FieldArray], place: Path, argument: str, what: str
) -> InputError:
    return InputError(
        argument,
        str(place),
        f"holds {_paths(arrays)}{what}, and nothing by the name of a {argument} field",
        f"name it {argument!r}, or give it in a file of its own",
    )


def _has_angles(found: Sequence[FieldArray], stack: FieldArray) -> bool:
    """Return whether angles that differ lie beside a stack, one for each of its images."""
    beside = [a for a in found if a.name in ANGLE_NAMES and a.shape in [(n,) for n in stack.shape]]
    return any(bool(np.ptp(a.load()) > 0) for a in beside)


def _paths(arrays: Sequence[FieldArray]) -> str:
    more = ", ..." if len(arrays) > _SHOWN else ""
    return ", ".join(a.path for a in arrays[:_SHOWN]) + more
