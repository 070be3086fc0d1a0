"""Projection of a volume larger than memory, in blocks of rows and pieces of columns.

A block whose rows fit is projected whole. A wider one is projected from left to right. Each piece of
columns is read once, and adds to the part of every tilt that it reaches. With the centre c this part
lies at ``(x - c) cos(theta) + c``, elsewhere for every tilt. So detector columns are kept until no
tilt needs more of the volume, and then yielded in whole chunks of the store, in order. At most about
a sixth of a block's projections is kept (tilts up to 60 degrees).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.readers.base import VolumeSource
from ddgm_dist.simulation.projector import Projector
from ddgm_dist.tilts.digests import CHUNK_COLUMNS, CHUNK_ROWS

__all__ = ["Scan"]

Floats = NDArray[np.float32]

_BLOCK_BYTES = 64 * 2**20
_MOST_CHUNKS = 8
# A piece costs its own width and the spread of its rays; a narrower one would mostly cost spread.
_LEAST_COLUMNS, _MOST_COLUMNS = 512, 16384


class Scan:
    """Noise-free projections of some rows of a volume.

    Parameters
    ----------
    source
        The volume.
    projector
        Projector of the volume's extent along z and x.
    rows
        Rows to project, with ``start`` and ``stop``.
    """

    def __init__(self, source: VolumeSource, projector: Projector, rows: slice) -> None:
        self.source, self.projector, self.rows = source, projector, rows
        depth, _, width = source.shape
        chunks = _BLOCK_BYTES // (4 * depth * width * CHUNK_ROWS)
        self._rows, self._columns = CHUNK_ROWS * min(max(chunks, 1), _MOST_CHUNKS), width
        if not chunks:
            # As many rows as fit, for matrices are made anew for each block.
            kept = 4 * projector.tilts * projector.n_u * CHUNK_ROWS // 6
            piece = 4 * depth * _LEAST_COLUMNS * CHUNK_ROWS
            chunks = min(_BLOCK_BYTES // kept, _BLOCK_BYTES // piece, _MOST_CHUNKS)
            self._rows = CHUNK_ROWS * max(chunks, 1)
            high = min(self._rows, rows.stop - rows.start) + 2 * projector.halo
            fitting = _BLOCK_BYTES // (4 * depth * high)
            self._columns = min(max(fitting, _LEAST_COLUMNS), _MOST_COLUMNS)

    def blocks(self) -> Iterator[tuple[slice, slice, Floats]]:
        """Yield ``(rows, columns, projections)``, rows in order, and each row's columns in order.

        Projections are float32 ``(tilt, rows, columns)``; columns are whole chunks of the store.

        Raises
        ------
        InputError
            If a voxel is NaN or infinite.
        """
        width = self.source.shape[2]
        for start in range(self.rows.start, self.rows.stop, self._rows):
            rows = slice(start, min(start + self._rows, self.rows.stop))
            if self._columns >= width:
                block = self._read(rows, slice(0, width))
                whole = slice(0, self.projector.n_u)
                yield rows, whole, self.projector.project(block, rows, self.source.shape[1])
            else:
                for columns, projections in self._sweep(rows):
                    yield rows, columns, projections

    def _sweep(self, rows: slice) -> Iterator[tuple[slice, Floats]]:
        """Yield columns of some rows' projections as soon as they are finished."""
        projector, (_, height, width) = self.projector, self.source.shape
        pending = _Pending(projector.tilts, rows.stop - rows.start, projector.n_u)
        for start in range(0, width, self._columns):
            piece = slice(start, min(start + self._columns, width))
            for tilt, first, seen in projector.parts(self._read(rows, piece), piece, rows, height):
                pending.add(tilt, first, seen)
            finished = projector.n_u
            if piece.stop < width:
                rest = slice(piece.stop, width)
                finished = min(projector.reached(t, rest).start for t in range(projector.tilts))
            yield from pending.take(finished)

    def _read(self, rows: slice, columns: slice) -> Floats:
        """Read the voxels of some columns that the projections of some rows need."""
        depth, height, _ = self.source.shape
        read = self.projector.needs(rows, height)
        box = Box((0, read.start, columns.start), (depth, read.stop, columns.stop))
        block = self.source.read(box)
        if not np.isfinite(block).all():
            z, y, x = np.argwhere(~np.isfinite(block))[0]
            place = (int(z), int(y) + read.start, int(x) + columns.start)
            raise InputError(
                "volume",
                f"{block[z, y, x]} at (z, y, x) = {place}",
                "its voxels must be finite to be projected",
            )
        return block


class _Pending:
    """Unfinished projections, by tilt and chunk of columns; zero where nothing was added."""

    def __init__(self, tilts: int, rows: int, n_u: int) -> None:
        self._tilts, self._rows, self._n_u = tilts, rows, n_u
        self._next = 0
        self._chunks: dict[tuple[int, int], Floats] = {}

    def add(self, tilt: int, first: int, seen: Floats) -> None:
        """Add projections ``(rows, columns)`` from the detector column ``first`` on."""
        stop = first + seen.shape[1]
        for begin in range(first // CHUNK_COLUMNS * CHUNK_COLUMNS, stop, CHUNK_COLUMNS):
            if (tilt, begin) not in self._chunks:
                shape = (self._rows, min(CHUNK_COLUMNS, self._n_u - begin))
                self._chunks[tilt, begin] = np.zeros(shape, dtype=np.float32)
            low, high = max(first, begin), min(stop, begin + CHUNK_COLUMNS)
            self._chunks[tilt, begin][:, low - begin : high - begin] += seen[
                :, low - first : high - first
            ]

    def take(self, finished: int) -> Iterator[tuple[slice, Floats]]:
        """Yield the chunks of all tilts that end at or before the detector column ``finished``."""
        while self._next < self._n_u and min(self._next + CHUNK_COLUMNS, self._n_u) <= finished:
            begin, width = self._next, min(CHUNK_COLUMNS, self._n_u - self._next)
            out = np.zeros((self._tilts, self._rows, width), dtype=np.float32)
            for tilt in range(self._tilts):
                part = self._chunks.pop((tilt, begin), None)
                if part is not None:
                    out[tilt] = part
            self._next += width
            yield slice(begin, begin + width), out
