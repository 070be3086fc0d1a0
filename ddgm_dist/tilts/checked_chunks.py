"""Reading whole chunks of a tilt series and comparing them with its record."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.float32 import as_float32
from ddgm_dist.errors import StorageError
from ddgm_dist.paths.array_io import BulkArray
from ddgm_dist.tilts.digests import (
    CHUNK_COLUMNS,
    CHUNK_ROWS,
    PIECE,
    cut,
    digest_of_chunk,
    empty_pieces,
    hash_pieces,
)
from ddgm_dist.tilts.record import Record, Tables

__all__ = ["CheckedChunks"]

_IN_FLIGHT_BYTES = 64 * 2**20
_SHOWN = 3


class CheckedChunks:
    """Chunks of a recorded series; each is compared with its digest when it is first read.

    Parameters
    ----------
    path
        Path or URL of the series, for messages.
    bulk
        Array of the series.
    record, tables
        Record of the series, and the digests that belong to it.
    """

    def __init__(self, path: str, bulk: BulkArray, record: Record, tables: Tables) -> None:
        self._path, self._bulk, self.tables = path, bulk, tables
        self._shape, self._dtype = record.shape, record.dtype
        _, height, width = record.shape
        # Chunks that have been read and found to be as they were written.
        self._done = np.zeros((cut(height, CHUNK_ROWS), cut(width, CHUNK_COLUMNS)), dtype=bool)

    def is_done(self, rows: tuple[int, int], first: Sequence[int], width: int) -> bool:
        """Return whether all chunks of some lines have been compared before."""
        bands = slice(rows[0] // CHUNK_ROWS, cut(rows[1], CHUNK_ROWS))
        return all(
            self._done[bands, u // CHUNK_COLUMNS : cut(u + width, CHUNK_COLUMNS)].all()
            for u in set(first)
        )

    def read_lines(self, rows: tuple[int, int], first: Sequence[int], width: int) -> NDArray[Any]:
        """Columns ``[first[t], first[t] + width)`` of tilt t, ``(tilt, rows, width)``, as stored.

        Raises
        ------
        StorageError
            Chunks are damaged, unreadable, missing, or not those that were written.
        """
        (tilts, height, field), (start, stop) = self._shape, rows
        out = np.empty((tilts, stop - start, width), dtype=self._dtype)
        bands = range(start // CHUNK_ROWS, cut(stop, CHUNK_ROWS))
        across = sorted(
            {
                c
                for f in set(first)
                for c in range(f // CHUNK_COLUMNS, cut(f + width, CHUNK_COLUMNS))
            }
        )
        if not (across and bands):
            return out
        wanted = self.tables.chunks(
            slice(bands.start, bands.stop), slice(across[0], across[-1] + 1)
        )
        places = [
            (
                slice(band * CHUNK_ROWS, min((band + 1) * CHUNK_ROWS, height)),
                slice(c * CHUNK_COLUMNS, min((c + 1) * CHUNK_COLUMNS, field)),
            )
            for band, c in itertools.product(bands, across)
        ]
        size = tilts * CHUNK_ROWS * CHUNK_COLUMNS * np.dtype(self._dtype).itemsize
        reads = self._bulk.read_each(
            [(slice(0, tilts), *place) for place in places],
            in_flight=max(1, _IN_FLIGHT_BYTES // size),
        )
        for (y, u), chunk in zip(places, reads, strict=True):
            band, c = y.start // CHUNK_ROWS, u.start // CHUNK_COLUMNS
            if not self._done[band, c]:
                if (digest_of_chunk(chunk) != wanted[band - bands.start, c - across[0]]).any():
                    raise self.error(y, u)
                self._done[band, c] = True
            low, high = max(start, y.start), min(stop, y.stop)
            lines = slice(low - start, high - start)
            own = slice(low - y.start, high - y.start)
            for tilt, begin in enumerate(first):
                a, b = max(begin, u.start), min(begin + width, u.stop)
                if a < b:
                    out[tilt, lines, a - begin : b - begin] = chunk[
                        tilt, own, a - u.start : b - u.start
                    ]
        return out

    def error(self, rows: slice, columns: slice) -> StorageError:
        """The error that pixels are not those that were written, with the tilts at fault.

        Parameters
        ----------
        rows, columns
            At fault, within one piece. Its tilts are read again, to say which.
        """
        row, across = rows.start // PIECE[0], columns.start // PIECE[1]
        y = slice(row * PIECE[0], min((row + 1) * PIECE[0], self._shape[1]))
        u = slice(across * PIECE[1], min((across + 1) * PIECE[1], self._shape[2]))
        found = empty_pieces((self._shape[0], *PIECE))
        block = self._bulk.read((slice(None), y, u))
        hash_pieces((0, 0, 0), as_float32(block, "tilts", self._path, copy=False), found)
        recorded = self.tables.pieces()[row, across]
        tilts = np.flatnonzero((found[0, 0] != recorded).any(axis=1)).tolist()
        shown = ", ".join(map(str, tilts[:_SHOWN])) + ", ..." * (len(tilts) > _SHOWN)
        # None: the digests are damaged, or the pixels are right when they are read again.
        shown = f"tilt {shown}" if tilts else "some tilt"
        return StorageError(
            f"{self._path}: {shown}, rows {rows.start} to {rows.stop - 1}, columns "
            f"{columns.start} to {columns.stop - 1} hold other pixels than were written: their digest "
            "is not the recorded one. Put a good copy in its place and run the same command again, what "
            "is finished is kept; or, if they were changed on purpose, delete "
            f"{self.tables.folder} and give another output"
        )
