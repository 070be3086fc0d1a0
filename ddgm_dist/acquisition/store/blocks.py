"""Writing blocks of rows of a tilt series, with digests and the survey of their pixels.

Workers import this module, so nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.acquisition.store.receipts import Written
from ddgm_dist.acquisition.store.target import Floats, Target, steps
from ddgm_dist.core.box import Box
from ddgm_dist.tile.host import give_back_memory
from ddgm_dist.tilts.digests import CHUNK_COLUMNS, CHUNK_ROWS, cut, digest_of_chunk
from ddgm_dist.tilts.strips import Slices, StripSlices, Task, read_strip

__all__ = ["Block", "write_block"]

# Float32 that is read at a time, where pieces allow it.
_MOST_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Block:
    """Rows that are written by one call.

    Attributes
    ----------
    number
        Its number.
    strip
        Blocks ``(tilts, rows, columns)`` side by side, which hold all views.
    threshold
        That of hot pixels; None where none is searched for.
    """

    number: int
    strip: StripSlices
    threshold: float | None = None

    @property
    def rows(self) -> slice:
        """All its rows."""
        return self.strip[0][1]


class _Writing:
    """Pixels of some rows of a target that are written when they are read, with digests of the chunks.

    Parameters
    ----------
    target
        Where they come from, and go to.
    rows
        The rows.
    """

    def __init__(self, target: Target, rows: slice) -> None:
        self._target, self._rows = target, rows
        self.shape, self.may_be_bad = target.shape, target.may_be_bad
        lines = cut(rows.stop - rows.start, CHUNK_ROWS)
        self.chunks = np.zeros((lines, cut(self.shape[2], CHUNK_COLUMNS), 32), dtype=np.uint8)
        self._here: NDArray[Any] | None = None
        tilts, _, width = self.shape
        if _nbytes((slice(0, tilts), rows, slice(0, width))) <= _MOST_BYTES:
            self._here = target.stored(Box((0, rows.start, 0), (tilts, rows.stop, width)))

    def read(self, rows: slice, columns: slice = slice(None), tilts: slice = slice(None)) -> Floats:
        """Any pixels; those at hand are not read again."""
        top, stop, _ = rows.indices(self.shape[1])
        first, last = max(top, self._rows.start), min(stop, self._rows.stop)
        if self._here is None or first >= last:
            return self._target.read(rows, columns, tilts)
        here = self._here[tilts, first - self._rows.start : last - self._rows.start, columns]
        parts = [self._target.floats(here)]
        if top < first:
            parts.insert(0, self._target.read(slice(top, first), columns, tilts))
        if last < stop:
            parts.append(self._target.read(slice(last, stop), columns, tilts))
        return np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]

    def read_unchecked(self, block: Slices) -> Floats:
        """A block ``(tilts, rows, columns)`` of whole chunks, which is then in the store."""
        if self._here is None:
            stored = self._target.stored(self._target.box(block))
        else:
            stored = self._here[:, :, block[2]]
        self._target.array.write(block, stored)
        for i, j in np.ndindex(len(self.chunks), cut(stored.shape[2], CHUNK_COLUMNS)):
            row, column = i * CHUNK_ROWS, j * CHUNK_COLUMNS
            chunk = stored[:, row : row + CHUNK_ROWS, column : column + CHUNK_COLUMNS]
            self.chunks[i, block[2].start // CHUNK_COLUMNS + j] = digest_of_chunk(chunk)
        return self._target.floats(stored)


def write_block(target: Target, block: Block) -> Written:
    """Write some rows of all views, and say what has been written.

    Raises
    ------
    InputError
        The source cannot be read, or a pixel cannot be stored.
    StorageError
        The store cannot be written, or another process has taken over.
    """
    target.receipts.check()
    writing = _Writing(target, block.rows)
    task = Task((block.strip,), digests=True, scan=True, threshold=block.threshold)
    if max(map(_nbytes, block.strip)) <= _MOST_BYTES:
        strip = read_strip(writing, block.strip, task)
    else:
        # Of very many views, a block as high as a chunk and as wide as a piece is too large.
        for part in block.strip:
            for narrow in _narrower(part):
                writing.read_unchecked(narrow)
        few = tuple(views for part in block.strip for views in _fewer_views(part))
        strip = read_strip(target, few, task)
    written = Written(block.number, strip, writing.chunks)
    target.receipts.add(written)
    give_back_memory()
    return written


def _nbytes(block: Slices) -> int:
    size: int = math.prod(part.stop - part.start for part in block)
    return 4 * size


def _narrower(block: Slices) -> Iterator[Slices]:
    """Parts of a block, of whole chunks."""
    tilts, rows, columns = block
    chunks = _MOST_BYTES // _nbytes((tilts, rows, slice(0, CHUNK_COLUMNS)))
    for columns_here in steps(columns, max(1, chunks) * CHUNK_COLUMNS):
        yield tilts, rows, columns_here


def _fewer_views(block: Slices) -> Iterator[Slices]:
    """Parts of a block, of whole pieces."""
    tilts, rows, columns = block
    views = _MOST_BYTES // _nbytes((slice(0, 1), rows, columns))
    for tilts_here in steps(tilts, max(1, views)):
        yield tilts_here, rows, columns
