"""Text files as microscopes' and alignment programs write them: encodings, line ends, numbers."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Sequence
from pathlib import Path

from ddgm_dist.errors import InputError

__all__ = ["check_whole", "number", "read_text", "shown", "whole_number"]

_MOST_BYTES = 64 * 2**20
# Line ends besides these would break a line in two, or a number, where nobody sees it.
_NO_TEXT = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[-+]?\d{1,18}", re.ASCII)
_FEWEST_LINES = 3


def read_text(path: Path, argument: str, *, hint: str = "", western: bool = False) -> str:
    """Decode a text file; its lines end with a line feed alone.

    UTF-8 and UTF-16, with a byte order mark or (UTF-8) without. Line ends may be those of any system.

    Parameters
    ----------
    argument
        What the file is for, in messages.
    hint
        What to try if it cannot be read.
    western
        Read a file that is not UTF-8 as Windows' western encoding. Right where only comments and names
        of files may hold more than ASCII.

    Raises
    ------
    InputError
        The file is missing, very large, or not text.
    """
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise InputError(
                argument,
                str(path),
                f"has {size} bytes, more than {_MOST_BYTES}: is it that file?",
                hint,
            )
        return _decoded(path.read_bytes(), western)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(
            argument, str(path), f"is not a readable text file ({error})", hint
        ) from error


def number(word: str) -> float:
    """A finite number, with an E or a D before its exponent; ValueError if it is none."""
    if not _NUMBER.fullmatch(word):
        raise ValueError(f"{shown(word)} is no number")
    value = float(re.sub("[dD]", "e", word))
    if not math.isfinite(value):
        raise ValueError(f"{shown(word)} is too large")
    return value


def whole_number(word: str) -> int:
    """An integer of at most 18 digits; ValueError if it is none."""
    if not _INTEGER.fullmatch(word):
        raise ValueError(f"{shown(word)} is no whole number")
    return int(word)


def check_whole(text: str, rows: Sequence[Sequence[str]], argument: str, path: Path) -> None:
    """Refuse a table whose last number has lost digits because the file was cut short.

    A table without a line end after its last number may have been cut within that number. It was, if
    all lines above agree on the digits after the point, and the last line has fewer.

    Parameters
    ----------
    text
        The whole file.
    rows
        Words of each line of the table, none of which is empty.

    Raises
    ------
    InputError
        The last number has fewer decimals than those above it.
    """
    if len(rows) < _FEWEST_LINES or not text.endswith(rows[-1][-1]):
        return
    column = len(rows[-1]) - 1
    above = {_decimals(row[column]) if column < len(row) else -1 for row in rows[:-1]}
    if len(above) == 1 and _decimals(rows[-1][column]) < min(above):
        raise InputError(
            argument,
            str(path),
            f"is cut short: its last number, {shown(rows[-1][column])}, has fewer decimals than "
            "those above it, and no line end follows",
            "copy the file again; if it is complete, end its last line",
        )


def shown(text: str) -> str:
    """Quote a piece of a file for a message, shortened."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _decoded(raw: bytes, western: bool) -> str:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = raw.decode("utf-16")
    else:
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            if not western:
                raise
            text = raw.decode("cp1252")
    text = re.sub("\r*\n|\r", "\n", text.removesuffix("\x1a"))  # DOS ended files with Ctrl-Z
    if "\0" in text:
        raise ValueError("it is no text, or UTF-16 without a byte order mark")
    if found := _NO_TEXT.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise ValueError(f"line {line} holds the control character {found.group()!r}")
    return text


def _decimals(word: str) -> int:
    """Characters after the decimal point, an exponent included."""
    return len(word.partition(".")[2])
