"""Reading a tilt series by others and comparing it with the record that a run keeps of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.float32 import as_float32
from ddgm_dist.paths.array_io import BulkArray
from ddgm_dist.tilts.checked import Checked
from ddgm_dist.tilts.digests import PIECE, cut, empty_pieces, hash_pieces
from ddgm_dist.tilts.record import Record
from ddgm_dist.tilts.tables import Tables

__all__ = ["CheckedPieces"]

_IN_FLIGHT_BYTES = 64 * 2**20


class CheckedPieces(Checked):
    """Pieces of a series; each is compared with its digest when it is first read.

    The series may have chunks of any shape, so what is asked for is read at once, rounded to whole
    pieces. The parameters are those of `Checked`.
    """

    recorded = "when the run began"
    on_purpose = "give another output"

    def __init__(self, path: str, bulk: BulkArray, record: Record, tables: Tables) -> None:
        super().__init__(path, bulk, record, tables)
        tilts, height, width = record.shape
        # Pieces that have been read and found to be as they were.
        self._done = np.zeros((cut(height, PIECE[0]), cut(width, PIECE[1]), tilts), dtype=bool)

    def is_done(self, rows: tuple[int, int], first: Sequence[int], width: int) -> bool:
        """True if all pixels of some lines have been compared before."""
        bands = slice(rows[0] // PIECE[0], cut(rows[1], PIECE[0]))
        return all(
            self._done[bands, u // PIECE[1] : cut(u + width, PIECE[1]), tilt].all()
            for tilt, u in enumerate(first)
        )

    def read_lines(self, rows: tuple[int, int], first: Sequence[int], width: int) -> NDArray[Any]:
        """Columns ``[first[t], first[t] + width)`` of tilt t, float32 ``(tilt, rows, width)``.

        Raises
        ------
        StorageError
            Chunks are damaged, unreadable, missing, or not those that were there before.
        """
        (tilts, height, field), (start, stop) = self._shape, rows
        out = np.empty((tilts, stop - start, width), dtype=np.float32)
        if not out.size:
            return out
        y = slice(start // PIECE[0] * PIECE[0], min(cut(stop, PIECE[0]) * PIECE[0], height))
        views = [slice(0, tilts)]
        if len(set(first)) > 1:  # tilts of one chunk are neighbours, so that it is decoded once
            order = sorted(range(tilts), key=lambda tilt: first[tilt])
            views = [slice(tilt, tilt + 1) for tilt in order]
        parts = list[tuple[slice, slice, slice]]()
        for view in views:
            start_u, stop_u = first[view.start], first[view.start] + width
            last = min(cut(stop_u, PIECE[1]) * PIECE[1], field)
            parts.append((view, y, slice(start_u // PIECE[1] * PIECE[1], last)))
        size = (y.stop - y.start) * (width + 2 * PIECE[1]) * np.dtype(self._dtype).itemsize
        reads = self._bulk.read_each(parts, in_flight=max(1, _IN_FLIGHT_BYTES // size))
        for (view, _, u), read in zip(parts, reads, strict=True):
            origin = (view.start, y.start, u.start)
            block = as_float32(read, "tilts", self._path, origin, copy=False)
            self._compare(origin, block)
            left = first[view.start] - u.start
            out[view] = block[:, start - y.start : stop - y.start, left : left + width]
        return out

    def _compare(self, origin: tuple[int, int, int], block: NDArray[np.float32]) -> None:
        """Compare whole pieces with the record."""
        (t, y, u), (tilts, height, width) = origin, block.shape
        found = empty_pieces((tilts, height, width))
        hash_pieces((0, 0, 0), block, found)
        row, across = y // PIECE[0], u // PIECE[1]
        here = slice(row, row + len(found)), slice(across, across + found.shape[1])
        recorded = self.tables.pieces_of(*here)[:, :, t : t + tilts]
        other = np.argwhere((found != recorded).any(axis=3).any(axis=2))
        if len(other):
            y, u = y + int(other[0, 0]) * PIECE[0], u + int(other[0, 1]) * PIECE[1]
            raise self.error(
                slice(y, min(y + PIECE[0], self._shape[1])),
                slice(u, min(u + PIECE[1], self._shape[2])),
            )
        self._done[*here, t : t + tilts] = True
