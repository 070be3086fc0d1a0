"""Lines of text that fit a terminal of 80 columns."""

from __future__ import annotations

import re
import textwrap

__all__ = ["WIDTH", "labelled", "wrapped"]

# Columns of a terminal.
WIDTH = 80


def wrapped(text: str, indent: int = 0) -> str:
    """Break lines at words, so that each has at most 80 columns; a longer word stays whole.

    Parameters
    ----------
    text
        Lines of text.
    indent
        Columns before all lines but the first, which has so many already.
    """
    before = " " * indent
    lines = list[str]()
    for line in text.split("\n"):
        # Items of a list continue beneath their text.
        first = before + " " * (len(line) - len(line.lstrip()))
        number = re.match(r"\d+\. ", line.lstrip())
        lines += textwrap.wrap(
            line.lstrip(),
            WIDTH,
            initial_indent=first,
            subsequent_indent=first + " " * len(number[0] if number else ""),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)[indent:]


def labelled(label: str, text: str, indent: int) -> str:
    """Text beside its label, in lines of at most 80 columns.

    Parameters
    ----------
    label, text
        Label; text of one line or several.
    indent
        Column at which all lines of the text begin.
    """
    return f"{label:<{indent}}{wrapped(text, indent)}"
