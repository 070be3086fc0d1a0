"""Sections and entries of the autodoc format of IMOD and SerialEM, of which ``.mdoc`` is one use.

Global entries ``key = value`` come first, then sections that begin with ``[type = name]``. Titles are
sections ``[T = text]`` without entries. Source: SerialEM's help, *File Formats*.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ddgm_dist.errors import InputError
from ddgm_dist.readers.text import number, shown, whole_number

__all__ = ["Autodoc", "Section", "parse_autodoc"]

_HEAD = re.compile(r"\[\s*([A-Za-z]\w*)\s*=\s*(.*?)\s*\]")
_ENTRY = re.compile(r"([^=\s][^=]*?)\s*=\s*(.*)")
_TITLE = "T"
# Lines without an equals sign continue the value above, unless they begin with one of these.
_KNOWN = re.compile(
    r"(TiltAngle|PixelSpacing|ImageSize|ExposureDose|PriorRecordDose|SubFramePath|ExposureTime"
    r"|CountsPerElectron|MinMaxMean|Binning|RotationAngle|Voltage|ImageFile|TiltAxisAngle)\b"
)

Value = TypeVar("Value")


@dataclass
class Section:
    """Entries under one head.

    Attributes
    ----------
    kind, name
        Of the head ``[kind = name]``; empty for the global entries.
    line
        Line of the head.
    entries
        For each key its value and the line of it.
    path
        The file.
    """

    kind: str
    name: str
    line: int
    path: Path
    entries: dict[str, tuple[str, int]] = field(default_factory=dict)

    def text(self, key: str) -> str | None:
        """The value as it is written; None if there is none."""
        value = self.entries.get(key, ("", 0))[0]
        return value or None

    def number(self, key: str) -> float | None:
        """The value as a number; None if there is none, InputError if it is no number."""
        return self._parsed(key, number)

    def numbers(self, key: str, count: int) -> tuple[float, ...] | None:
        """The value as so many numbers; see `number`."""

        def parse(text: str) -> tuple[float, ...]:
            words = text.split()
            if len(words) != count:
                raise ValueError(f"it holds {len(words)} numbers, {count} are wanted")
            return tuple(number(word) for word in words)

        return self._parsed(key, parse)

    def integers(self, key: str, count: int) -> tuple[int, ...] | None:
        """The value as so many whole numbers; see `number`."""
        if self.numbers(key, count) is None:
            return None
        return self._parsed(key, lambda text: tuple(whole_number(word) for word in text.split()))

    def _parsed(self, key: str, parse: Callable[[str], Value]) -> Value | None:
        value, line = self.entries.get(key, ("", 0))
        if not value or value.lower() == "nan":
            return None
        try:
            return parse(value)
        except ValueError as error:
            raise InputError(
                "mdoc", str(self.path), f"line {line}: {key} is {shown(value)}, but {error}"
            ) from error


@dataclass
class Autodoc:
    """A parsed file: global entries, titles, and sections in the order of the file."""

    globals: Section
    titles: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)


def parse_autodoc(text: str, path: Path) -> Autodoc:
    """Parse the text of an autodoc file.

    Raises
    ------
    InputError
        A line is neither head, entry, comment nor continuation; a key has two values in one section;
        or the file was cut short within its last section.
    """
    document = Autodoc(Section("", "", 0, path))
    section, last = document.globals, ""
    for i, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            head = _HEAD.fullmatch(line)
            if not head:
                raise InputError(
                    "mdoc", str(path), f"line {i}, {shown(line)}, is no head of a section"
                )
            if head.group(1) == _TITLE:
                document.titles.append(head.group(2))
            else:
                section, last = Section(head.group(1), head.group(2), i, path), ""
                document.sections.append(section)
            continue
        last = _read_entry(section, last, i, line)
    _refuse_cut(text, document, path)
    return document


def _read_entry(section: Section, last: str, number_of_line: int, line: str) -> str:
    """Read an entry, or the continuation of the one of key ``last``; return the key."""
    entry = _ENTRY.fullmatch(line)
    if not entry:
        if last and not _KNOWN.match(line) and not line.startswith("="):
            value, first = section.entries[last]
            section.entries[last] = (f"{value} {line}", first)
            return last
        raise InputError(
            "mdoc",
            str(section.path),
            f"line {number_of_line}, {shown(line)}, is neither an entry key = value nor the head of "
            "a section",
        )
    key, value = entry.groups()
    if section.entries.setdefault(key, (value, number_of_line))[0] != value:
        raise InputError(
            "mdoc",
            str(section.path),
            f"{key} is {shown(section.entries[key][0])} in line {section.entries[key][1]}, and "
            f"{shown(value)} in line {number_of_line} of the same section",
        )
    return key


def _refuse_cut(text: str, document: Autodoc, path: Path) -> None:
    """Refuse a file without a last line end, whose last section lacks what all others have.

    Its last value may be half a number.
    """
    *others, last = document.sections or [document.globals]
    if text.endswith("\n") or not others:
        return
    common = set.intersection(*({*section.entries} for section in others))
    if missing := sorted(common - {*last.entries}):
        raise InputError(
            "mdoc",
            str(path),
            f"is cut short: its last section, from line {last.line}, lacks {', '.join(missing[:3])}, "
            "and no line end follows",
            "copy the file again; if it is complete, end its last line",
        )
