"""Sizes and durations as people read and write them: one formatter and one parser of each."""

from __future__ import annotations

import math
import re

__all__ = ["GIB", "KIB", "MIB", "TIB", "format_bytes", "format_duration", "parse_bytes"]

KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40

_PREFIXES = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def format_bytes(count: float) -> str:
    """A size in four digits: ``512 B``, ``1.5 KiB``, ``320 MiB``, ``7.25 GiB``.

    >>> format_bytes(3 * GIB // 2)
    '1.5 GiB'
    """
    for size, unit in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count:.4g} B"


def parse_bytes(text: str) -> int:
    """Bytes in ``text``: ``8GiB``, ``8Gi`` and ``8G`` (powers of 1024), ``8GB`` (of 1000), ``4096``.

    Raises
    ------
    ValueError
        The text is not a positive size.

    >>> parse_bytes("512MiB") == parse_bytes("0.5 g") == 2**29
    True
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(?:([kmgt]?)(b?)|([kmgt])ib?)", text.strip().lower())
    if match is None:
        raise ValueError("is not a size such as 8GiB")
    base = 1000 if match[2] and match[3] else 1024
    size = int(float(match[1]) * base ** _PREFIXES[match[4] or match[2] or ""])
    if size < 1:
        raise ValueError("is not a positive size")
    return size


def format_duration(seconds: float) -> str:
    """A duration in its two largest units: ``2.5 s``, ``42 s``, ``3 min 05 s``, ``7 h 30 min``.

    >>> format_duration(185)
    '3 min 05 s'
    """
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
