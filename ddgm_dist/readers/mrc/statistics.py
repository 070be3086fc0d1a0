"""The statistics that an MRC header states, against the pixels; all pixels are read in pieces."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from ddgm_dist.core.box import Box
from ddgm_dist.readers.mrc.header import MrcHeader, Statistics
from ddgm_dist.readers.stored_array import Stored, StoredArray

__all__ = ["agrees", "any_at_least", "as_dtype", "decides", "warn_of_strange_values"]

_log = logging.getLogger("ddgm_dist")

_SAMPLE = 2**17  # values of a section that are looked at


def decides(stated: Statistics | None) -> bool:
    """Return whether statistics can identify the pixels; the range alone fits many a wrong position."""
    return stated is not None and stated.mean is not None and stated.low < stated.high


def agrees(stored: Stored, stated: Statistics) -> bool:
    """Return whether values have these statistics, to the precision in which programs state them."""
    low, high, total, count = np.inf, -np.inf, 0.0, 0
    with np.errstate(all="ignore"):
        for piece in stored.pieces():
            values = piece.astype(np.float64)
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            total, count = total + float(values.sum()), count + values.size
    slack = 1e-4 * (stated.high - stated.low)
    means = [] if stated.mean is None else [(total / count, stated.mean)]
    # Not a number is never within the slack.
    return all(abs(a - b) <= slack for a, b in [(low, stated.low), (high, stated.high), *means])


def any_at_least(stored: StoredArray, bound: int) -> bool:
    """Return whether any integer is that large when it is read without a sign."""
    unsigned = as_dtype(stored, f"u{stored.dtype.itemsize}")
    return any(bool((piece >= bound).any()) for piece in unsigned.pieces())


def as_dtype(stored: StoredArray, kind: str) -> StoredArray:
    """The same bytes as another dtype, in the same byte order."""
    return replace(stored, dtype=np.dtype(f"{stored.dtype.byteorder}{kind}"))


def warn_of_strange_values(header: MrcHeader, stored: Stored, name: str) -> None:
    """Warn of values outside of what the header states, in the first, middle and last section.

    They show a header that was copied from another file, or pixels that are not what it says.

    Parameters
    ----------
    header
        Header of the file.
    stored
        ``(section, row, column)`` in stored units.
    name
        Name for messages.
    """
    stated = header.statistics
    if stated is None or (header.packed and not stated.within(0, 15)):
        return  # some programs state the range before they pack
    sections, height, width = stored.shape
    rows = min(height, max(1, _SAMPLE // width))
    boxes = [Box((k, 0, 0), (k + 1, rows, width)) for k in {0, sections // 2, sections - 1}]
    seen = np.stack([stored.block(box) for box in boxes]).astype(np.float64)
    seen = seen[np.isfinite(seen)]
    if not seen.size:
        return
    low, high = float(seen.min()), float(seen.max())
    slack = 1e-3 * (stated.high - stated.low) + 1e-6 * abs(stated.high)
    if low < stated.low - slack or high > stated.high + slack:
        _log.warning(
            "%s: holds values from %g to %g, but its header states %g to %g: the header is out of "
            "date, or the pixels are not what it says",
            *(name, low, high, stated.low, stated.high),
        )
