"""Lists of views as IMOD writes them: numbers from 1 and ranges, such as ``1,7,33-35``."""

from __future__ import annotations

import re

from ddgm_dist.errors import InputError
from ddgm_dist.readers.text import shown

__all__ = ["parse_views"]

_ITEM = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)
_MOST = 100_000


def parse_views(text: str, argument: str, most: int = _MOST) -> tuple[int, ...]:
    """Views of a list, sorted, each once.

    Commas or spaces are between items. A range may be given backwards, as in IMOD.

    Parameters
    ----------
    text
        The list.
    argument
        Where it comes from, for messages.
    most
        Largest number that a view may have.

    Raises
    ------
    InputError
        It is empty, or holds something else than numbers from 1 to ``most`` and ranges of them.
    """
    hint = "list views from 1 with commas and ranges, such as 1,7,33-35"
    joined = re.sub(r"[ \t]*-[ \t]*", "-", text.strip(" \t"))
    if not joined:
        raise InputError(argument, text, "lists no views", hint)
    ranges = []
    for item in re.split(r"[ \t]*,[ \t]*|[ \t]+", joined):
        found = _ITEM.fullmatch(item)
        if not found:
            raise InputError(
                argument, text, f"{shown(item)} is no view and no range of views", hint
            )
        ends = sorted(int(end) for end in found.groups() if end is not None)
        if ends[0] < 1 or ends[-1] > most:
            raise InputError(
                argument, text, f"{shown(item)} is outside the views 1 to {most}", hint
            )
        ranges.append((ends[0], ends[-1] + 1))
    # Ranges may overlap many times over: joined first, they cost no more than the views that there are.
    views: list[int] = []
    for begin, end in sorted(ranges):
        views.extend(range(max(begin, views[-1] + 1) if views else begin, end))
    return tuple(views)
