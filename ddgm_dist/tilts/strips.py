"""Reading all pixels in parts: whole rows of some views, with their digests and what stands out.

What workers import, so without torch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.pixels.scan import Scan
from ddgm_dist.tilts.bad_pixels import BadPixels, find_bad
from ddgm_dist.tilts.digests import PIECE, empty_pieces, hash_pieces

__all__ = [
    "Pixels",
    "Slices",
    "Strip",
    "StripSlices",
    "Task",
    "blocks_of",
    "read_strip",
    "strips_of",
]

Slices = tuple[slice, slice, slice]
# Blocks side by side.
StripSlices = tuple[Slices, ...]
Shape = tuple[int, int, int]

# Pixels of a call: far more work than opening the series.
_PART_PIXELS = 2**24


class Pixels(Protocol):
    """Pixels of a series as they are stored, whoever reads them."""

    @property
    def shape(self) -> Shape:
        """``(tilt, y, u)``."""
        ...

    @property
    def may_be_bad(self) -> bool:
        """True if the dtype can hold NaN or infinite pixels."""
        ...

    def read(self, rows: slice, columns: slice = ..., tilts: slice = ..., /) -> NDArray[np.float32]:
        """Any block ``(tilt, rows, columns)``."""
        ...

    def read_unchecked(self, block: Slices) -> NDArray[np.float32]:
        """A block ``(tilts, rows, columns)`` of a strip; each is asked for once."""
        ...


@dataclass(frozen=True)
class Task:
    """Strips to be read together. A strip is blocks side by side, with whole rows of some views.

    ``threshold`` is that of hot pixels; None where none is searched for.
    """

    strips: tuple[StripSlices, ...]
    digests: bool
    scan: bool
    threshold: float | None = None


@dataclass(frozen=True)
class Strip:
    """Survey of one strip: digests of its pieces, bad pixels, and the scan of its pixels."""

    tilts: slice
    rows: slice
    pieces: NDArray[np.uint8] | None
    bad: BadPixels
    scan: Scan | None


def blocks_of(shape: Shape, chunk: Shape, nbytes: int) -> Iterator[Slices]:
    """Blocks ``(tilts, rows, columns)`` that cover a series: so many bytes of float32 at a time.

    They hold whole chunks as far as that goes, and whole pieces of the fingerprint.

    Parameters
    ----------
    shape, chunk
        ``(tilt, y, u)`` of the series and of its chunks.
    nbytes
        Bytes of a block; more where a chunk, or a piece of each of its views, has more.
    """
    steps = [chunk[0]]
    for size, piece in zip(chunk[1:], PIECE, strict=True):
        steps.append(math.ceil(size / piece) * piece)
    for axis in (0, 2, 1):  # chunks hold all tilts, as a rule, and rows are contiguous in them
        others = math.prod(
            min(step, n) for k, (step, n) in enumerate(zip(steps, shape, strict=True)) if k != axis
        )
        times = nbytes // (4 * others * steps[axis])
        steps[axis] *= max(1, times)
    ranges = [range(0, n, step) for n, step in zip(shape, steps, strict=True)]
    for row, column, tilt in itertools.product(ranges[1], ranges[2], ranges[0]):
        start = (tilt, row, column)
        stop = [min(a + s, n) for a, s, n in zip(start, steps, shape, strict=True)]
        yield (slice(tilt, stop[0]), slice(row, stop[1]), slice(column, stop[2]))


def strips_of(blocks: Iterable[Slices]) -> Iterator[tuple[StripSlices, ...]]:
    """Whole rows of some views, so many at a time as are worth a call."""
    together, pixels = list[StripSlices](), 0
    for _, row in itertools.groupby(blocks, lambda block: block[1].start):
        by_tilt = dict[int, list[Slices]]()
        for block in row:
            by_tilt.setdefault(block[0].start, []).append(block)
        for strip in by_tilt.values():
            together.append(tuple(strip))
            pixels += sum(map(_size, strip))
            if pixels >= _PART_PIXELS:
                yield tuple(together)
                together, pixels = [], 0
    if together:
        yield tuple(together)


def _size(block: Slices) -> int:
    return math.prod(part.stop - part.start for part in block)


def read_strip(series: Pixels, strip: StripSlices, task: Task) -> Strip:
    """Read one strip, whose blocks of each view come from left to right."""
    tilts = slice(min(b[0].start for b in strip), max(b[0].stop for b in strip))
    rows, bad = strip[0][1], list[BadPixels]()
    here = (tilts.stop - tilts.start, rows.stop - rows.start, series.shape[2])
    pieces = empty_pieces(here) if task.digests else None
    scan = None
    if task.scan:
        scan = Scan(series.shape, task.threshold, series.read, tilts=tilts, rows=rows)
    for block in strip:
        values, (tilt, _, column) = series.read_unchecked(block), (part.start for part in block)
        if pieces is not None:
            hash_pieces((tilt - tilts.start, 0, column), values, pieces)
        if scan is not None:
            origin = (tilt, rows.start, column)
            if series.may_be_bad:
                bad.append(find_bad(origin, values))
            scan.add(origin, values)
    return Strip(tilts, rows, pieces, BadPixels.merge(bad), scan)
