"""IMOD's files of linear transforms (``.xf``) and of tilts about the x axis (``.xtilt``)."""

from __future__ import annotations

from pathlib import Path

from ddgm_dist.errors import InputError
from ddgm_dist.readers.text import check_whole, number, read_text, shown
from ddgm_dist.views.affine import Affine

__all__ = ["read_axis_tilts", "read_xf"]

_NUMBERS = 6
_TRANSFORMS, _TILTS = "transforms", "axis tilts"
_HINT = "each line holds A11 A12 A21 A22 DX DY, as IMOD's xfalign or tiltalign write them"
_WARPING_VERSIONS = ("1", "2", "3")


def read_xf(path: Path) -> tuple[Affine, ...]:
    """Transforms of the views, one line each, in stored order.

    Numbers may have exponents with D. Lines may end as on any system; UTF-8 or UTF-16. A file that was
    cut short between two lines looks like a shorter one: compare with the number of views.

    Returns
    -------
    tuple of Affine
        Shifts are pixels of the stack that the file is for.

    Raises
    ------
    InputError
        The file is missing, no text, empty, cut short within its last line, or it holds warpings.
        A line holds something else than six numbers, or maps an image to nothing.
    """
    text = read_text(path, _TRANSFORMS, hint=_HINT)
    lines = text.rstrip().split("\n")
    rows = [line.split() for line in lines]
    _refuse_warping(rows, path)
    transforms = tuple(_transform(i, row, path) for i, row in enumerate(rows, 1))
    check_whole(text, rows, _TRANSFORMS, path)
    return transforms


def read_axis_tilts(path: Path) -> tuple[float, ...]:
    """Tilts about the x axis, degrees, of an ``.xtilt`` file; one per line or several.

    Raises
    ------
    InputError
        The file is missing, no text, empty, or cut short; or it holds something else than numbers.
    """
    hint = "one number per view, as IMOD's tiltalign writes them"
    text = read_text(path, _TILTS, hint=hint)
    rows = [(i, line.split()) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    tilts: list[float] = []
    for i, row in rows:
        try:
            tilts += [number(word) for word in row]
        except ValueError as error:
            raise InputError(_TILTS, str(path), f"in line {i}, {error}", hint) from error
    if not tilts:
        raise InputError(_TILTS, str(path), "holds no tilts", hint)
    check_whole(text, [row for _, row in rows], _TILTS, path)
    return tuple(tilts)


def _refuse_warping(rows: list[list[str]], path: Path) -> None:
    """Refuse a file of warpings, whose first line holds the version of its format alone."""
    if not any(rows):
        raise InputError(_TRANSFORMS, str(path), "holds no transforms", _HINT)
    if len(rows[0]) == 1 and rows[0][0] in _WARPING_VERSIONS:
        raise InputError(
            _TRANSFORMS,
            str(path),
            f"is a warping file of IMOD (version {rows[0][0]}): warpings are not applied",
            "give an .xf file of linear transforms",
        )


def _transform(line: int, words: list[str], path: Path) -> Affine:
    if len(words) != _NUMBERS:
        local = len(words) > _NUMBERS and line == 1
        raise InputError(
            _TRANSFORMS,
            str(path),
            f"line {line} holds {len(words)} numbers where six are wanted"
            + (f": {shown(' '.join(words))}" if words else ", it is empty")
            + ("; is it a file of local alignments, as NAMElocal.xf is?" if local else ""),
            _HINT,
        )
    try:
        return Affine(*(number(word) for word in words))
    except InputError as error:
        raise InputError(_TRANSFORMS, str(path), f"line {line} {error.why}", _HINT) from error
    except ValueError as error:
        raise InputError(_TRANSFORMS, str(path), f"in line {line}, {error}", _HINT) from error
