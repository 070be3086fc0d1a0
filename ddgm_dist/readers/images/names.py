"""Names of images, one per section: their order, and the angles that they state."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ddgm_dist.errors import InputError

__all__ = [
    "IMAGE_SUFFIXES",
    "angles_in_names",
    "disagreement",
    "list_images",
    "numbers_in_names",
    "pairing",
]

IMAGE_SUFFIXES = (".png", ".tif", ".tiff")
_SINGLE_SUFFIXES = (".mrc",)  # looked for where there is no image of another format
_FRAMES_SUFFIX = ".eer"
_NAME_DEG = 1.0  # names have nominal angles, tables often refined ones
_WIDEST, _NARROWEST = 90.0, 5.0  # angles of a tilt series, and the least span of them
_NUMBER = re.compile(r"([-+]?\d+(?:\.\d+)?)")


def list_images(folder: Path) -> list[Path]:
    """PNG and TIFF files of a folder in the order of their names, numbers counting as numbers.

    Where the names differ in one signed number, such as a tilt angle, that orders them. Hidden
    files, whose names begin with a dot, are none. In a folder without PNG or TIFF, these are its
    ``.mrc`` files.

    Raises
    ------
    InputError
        The folder has PNG as well as TIFF files, or nothing but frames of a detector.
    """
    visible = [f for f in folder.iterdir() if f.name[0] != "." and f.is_file()]
    files = [f for f in visible if f.suffix.lower() in IMAGE_SUFFIXES]
    kinds = [f for f in files if f.suffix.lower() == ".png"]
    if kinds and len(kinds) != len(files):
        raise InputError(
            "source",
            str(folder),
            f"holds {len(kinds)} PNG and {len(files) - len(kinds)} TIFF files: which are the "
            "views?",
            "keep one kind in the folder",
        )
    if not files:
        files = [f for f in visible if f.suffix.lower() in _SINGLE_SUFFIXES]
    frames = sorted(f.name for f in visible if f.suffix.lower() == _FRAMES_SUFFIX)
    if frames and not files:
        raise InputError(
            "source",
            str(folder),
            f"holds frames of a detector in EER format, such as {frames[0]}",
            "sum or motion-correct the frames of each view first",
        )
    files.sort(key=_natural)
    numbers, signed = numbers_in_names(files)
    if not signed:
        return files
    return [file for _, file in sorted(zip(numbers, files, strict=True), key=lambda pair: pair[0])]


def numbers_in_names(files: Sequence[Path]) -> tuple[tuple[float, ...], bool]:
    """The one number in which the names of images differ, and whether its sign is meant as one.

    A plus is a sign, and so is a minus that only some names have. A minus that all names have is a sign
    where it can separate nothing, as in ``-60.tif`` and ``a[-60].tif``. It is one too where it follows
    neither letter nor digit and the numbers are decimal, as in ``s_-60.5.tif``. In ``slice-001.tif``,
    ``a_-001.tif`` and ``a -001.tif`` it is a separator.

    Returns
    -------
    tuple
        Numbers as they are written, one per file, none if the names differ in something else; and
        whether they are signed.
    """
    columns = _columns(files)
    if len(columns) != 1:
        return (), False
    ((before, words),) = columns
    return tuple(float(word) for word in words), _signed(before, words)


def angles_in_names(files: Sequence[Path]) -> tuple[float, ...] | None:
    """Tilt angles, degrees, that the names of images state.

    They are numbers within +-90 that are all different and span 5 degrees or more. They have signs
    in the sense of `numbers_in_names`, or else as many decimals each. They do not count the images.
    Other numbers in the names may differ too, such as a count or a date.

    Parameters
    ----------
    files
        Names of images, one per view.

    Returns
    -------
    tuple
        One angle per file, in the order given. None if no number of the names is one, or several
        might be.
    """
    found = [(words, _signed(before, words)) for before, words in _columns(files)]
    candidates = [words for words, signed in found if signed and _can_be_angles(words)]
    if not candidates:
        candidates = [
            words
            for words, _ in found
            if len({len(word.partition(".")[2]) for word in words}) == 1
            and "." in words[0]
            and _can_be_angles(words)
        ]
    if len(candidates) != 1:
        return None
    return tuple(float(word) for word in candidates[0])


def _can_be_angles(words: Sequence[str]) -> bool:
    numbers = [float(word) for word in words]
    if len({*numbers}) != len(numbers) or max(map(abs, numbers)) > _WIDEST:
        return False
    first = min(numbers)
    counts = first in (0, 1) and sorted(numbers) == [first + i for i in range(len(numbers))]
    return not counts and max(numbers) - first >= _NARROWEST


def _columns(files: Sequence[Path]) -> list[tuple[str, list[str]]]:
    """Numbers in which names differ that are the same but for numbers; and the text before each."""
    names = [_NUMBER.split(f.stem) for f in files]
    if len(names) < 2 or len({tuple(name[::2]) for name in names}) > 1:
        return []
    varying = [k for k in range(1, len(names[0]), 2) if len({name[k] for name in names}) > 1]
    return [("".join(names[0][:k]), [name[k] for name in names]) for k in varying]


def _signed(before: str, words: Sequence[str]) -> bool:
    """Return whether the signs of numbers are meant as such, rather than as separators."""
    minus = sum(word.startswith("-") for word in words)
    if any(word.startswith("+") for word in words) or 0 < minus < len(words):
        return True
    last = before[-1:]
    decimal = any("." in word for word in words)
    return minus > 0 and (last in ("", *"([{=") or (decimal and not last.isalnum()))


def pairing(files: Sequence[Path], angles: Sequence[float]) -> str:
    """Pairs of image and angle in degrees, as text: the first, the middle and the last one."""
    shown = sorted({0, len(files) // 2, len(files) - 1})
    return ", ".join(f"{files[i].name} -> {angles[i]:g}" for i in shown)


def disagreement(files: Sequence[Path], angles: Sequence[float]) -> str:
    """Text on names of images that state other angles, degrees, than they are paired with.

    Numbers without a sign may count the images. They are taken for angles only if they are the
    same as the angles, in another order.

    Returns
    -------
    str
        A sentence, empty where nothing disagrees.
    """
    numbers, signed = numbers_in_names(files)
    if len(numbers) != len(angles):
        return ""
    pairs = list(zip(numbers, angles, strict=True))
    other = [i for i, (number, angle) in enumerate(pairs) if abs(number - angle) > _NAME_DEG]
    same = zip(sorted(numbers), sorted(angles), strict=True)
    if not other or not (signed or all(abs(a - b) <= _NAME_DEG for a, b in same)):
        return ""
    first = other[0]
    return (
        f"{files[first].name} is taken for {angles[first]:g} degrees, though its name says "
        f"{numbers[first]:g}; so it is with {len(other)} of {len(files)} images: give the angles "
        "in the order of the names"
    )


def _natural(file: Path) -> list[tuple[int, int, str]]:
    """Sorts names by their text and by the numbers in them."""
    return [_part(part) for part in re.split(r"(\d+)", file.name)]


def _part(text: str) -> tuple[int, int, str]:
    return (0, int(text), "") if text.isdigit() else (1, 0, text)
