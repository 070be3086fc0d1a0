"""Reading whole chunks of a tilt series and comparing them with its record."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.paths.array_io import BulkArray
from ddgm_dist.tilts.checked import Checked
from ddgm_dist.tilts.digests import CHUNK_COLUMNS, CHUNK_ROWS, cut, digest_of_chunk
from ddgm_dist.tilts.record import Record
from ddgm_dist.tilts.tables import Tables

__all__ = ["CheckedChunks"]

_IN_FLIGHT_BYTES = 64 * 2**20


class CheckedChunks(Checked):
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
        super().__init__(path, bulk, record, tables)
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
