"""SHA-256 digests of the pixels of a tilt series, by piece and by chunk.

There are two tables, for two ends. Digests of *pieces* make the fingerprint, whatever the chunks and
the dtype: a piece is one tilt, 8 rows and 8192 columns, as float32. Digests of *chunks* let a reader
check what it reads of a wide field without reading more than that. A chunk is all tilts, 8 rows and
1024 columns, as they are stored.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.float32 import as_float32
from ddgm_dist.tilts.bad_pixels import Origin
from ddgm_dist.tilts.metadata import TiltSeriesMeta

__all__ = [
    "CHUNK_COLUMNS",
    "CHUNK_ROWS",
    "PIECE",
    "Digests",
    "block_shape",
    "cut",
    "digest_of_chunk",
    "empty_pieces",
    "fingerprint_of",
    "hash_block",
    "hash_pieces",
    "threads",
]

# Digests in a chunk of a table: a reader needs those near what it reads.
_TOGETHER = 2048

# Rows and columns of pieces; changing them changes every fingerprint.
PIECE = (8, 8192)
# Rows and columns of chunks; pieces hold whole ones.
CHUNK_ROWS, CHUNK_COLUMNS = 8, 1024

Shape = tuple[int, int, int]
Bytes = NDArray[np.uint8]


def threads() -> int:
    """Number of threads that read or hash a series."""
    return min(4, len(os.sched_getaffinity(0)))


def cut(extent: int, size: int) -> int:
    """Number of parts of a size, the last one perhaps smaller."""
    return -(-extent // size)


def empty_pieces(shape: Shape) -> Bytes:
    """Room for the digests of all pieces, ``(row, column, tilt, 32)``."""
    tilts, height, width = shape
    return np.zeros((cut(height, PIECE[0]), cut(width, PIECE[1]), tilts, 32), dtype=np.uint8)


def hash_pieces(origin: Origin, block: NDArray[np.float32], out: Bytes) -> None:
    """Put the digests of a block's pieces where they belong.

    Parameters
    ----------
    origin
        First tilt, row and column of the block; row and column begin a piece.
    block
        ``(tilt, rows, columns)`` of whole pieces.
    out
        Table made by `empty_pieces`.
    """
    (t, y, u), (rows, columns) = origin, PIECE
    _, height, width = block.shape
    for i, j, k in np.ndindex(cut(height, rows), cut(width, columns), len(block)):
        piece = block[k, i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
        out[y // rows + i, u // columns + j, t + k] = _sha256(piece.astype("<f4", copy=False))


def digest_of_chunk(chunk: NDArray[np.generic]) -> Bytes:
    """Digest of a chunk's values in the stored dtype, little endian."""
    return _sha256(chunk.astype(chunk.dtype.newbyteorder("<"), copy=False))


def fingerprint_of(shape: Shape, meta: TiltSeriesMeta, pieces: Bytes) -> str:
    """SHA-256 of the pieces' digests and of all metadata but the description."""
    head = [shape, meta.angles_deg, meta.shifts_px, meta.pixel_size_nm, meta.thickness_px]
    if meta.sigma_y is not None:  # older series have none
        head.append(meta.sigma_y)
    total = hashlib.sha256(json.dumps(head).encode())
    total.update(pieces.tobytes())
    return total.hexdigest()


def _sha256(values: NDArray[np.generic]) -> Bytes:
    digest = hashlib.sha256(np.ascontiguousarray(values).data).digest()
    return np.frombuffer(digest, dtype=np.uint8)


class Digests:
    """Collects the digests of a series while it is written, in any order and from several threads.

    What a write makes whole is hashed from memory where the write holds all of it. What was written in
    parts is read back.

    Parameters
    ----------
    shape
        ``(tilt, y, u)`` of the series.
    read
        Reads rows and columns of all tilts, as they are stored.
    name
        Name of the series, for messages.

    Attributes
    ----------
    pieces
        Digests, ``(row, column, tilt, 32)``.
    chunks
        ``(rows of chunks, columns of chunks, 32)``.
    """

    def __init__(
        self, shape: Shape, read: Callable[[slice, slice], NDArray[np.generic]], name: str
    ) -> None:
        _, height, width = shape
        self._shape, self._read, self._name = shape, read, name
        across = cut(width, CHUNK_COLUMNS)
        self.pieces = empty_pieces(shape)
        self.chunks: Bytes = np.zeros((cut(height, CHUNK_ROWS), across, 32), dtype=np.uint8)
        # By row and chunk of columns.
        self._written = np.zeros((height, across), dtype=bool)
        self._lock = threading.Lock()

    def add(self, row: int, column: int, block: NDArray[np.generic]) -> None:
        """Add a block written from a row and a column on: whole chunks of columns, all tilts."""
        stop, right = row + block.shape[1], column + block.shape[2]
        with self._lock:
            self._written[row:stop, column // CHUNK_COLUMNS : cut(right, CHUNK_COLUMNS)] = True
        bands = range(row // CHUNK_ROWS, cut(stop, CHUNK_ROWS))
        with ThreadPoolExecutor(threads()) as pool:
            for _ in pool.map(lambda band: self._add_band(band, row, column, block), bands):
                pass  # so that errors are raised

    def adopt(self, row: int, pieces: Bytes, chunks: Bytes) -> None:
        """Take over the digests of rows that another process has written, from a row on."""
        top = row // CHUNK_ROWS
        with self._lock:
            self.pieces[top : top + len(pieces)] = pieces
            self.chunks[top : top + len(chunks)] = chunks
            self._written[row : row + len(chunks) * CHUNK_ROWS] = True

    def missing_rows(self) -> NDArray[np.intp]:
        """Rows that have not been written whole."""
        return np.flatnonzero(~self._written.all(axis=1))

    def _add_band(self, band: int, row: int, column: int, block: NDArray[np.generic]) -> None:
        """Digests of the chunks and pieces in 8 rows that a write has touched."""
        (_, height, width), (_, lines, across) = self._shape, block.shape
        right = column + across
        rows = slice(band * CHUNK_ROWS, min((band + 1) * CHUNK_ROWS, height))

        def whole(first: int, size: int) -> tuple[slice, NDArray[np.generic] | None]:
            """Columns of a part, and its values if all of them have been written."""
            columns = slice(first, min(first + size, width))
            here = slice(rows.start - row, rows.stop - row)
            inner = slice(first - column, columns.stop - column)
            if min(here.start, inner.start) >= 0 and here.stop <= lines and inner.stop <= across:
                return columns, block[:, here, inner]
            chunks = slice(first // CHUNK_COLUMNS, cut(columns.stop, CHUNK_COLUMNS))
            with self._lock:
                written = bool(self._written[rows, chunks].all())
            return columns, self._read(rows, columns) if written else None

        for first in range(column // CHUNK_COLUMNS * CHUNK_COLUMNS, right, CHUNK_COLUMNS):
            _, chunk = whole(first, CHUNK_COLUMNS)
            if chunk is not None:
                self.chunks[band, first // CHUNK_COLUMNS] = digest_of_chunk(chunk)
        for first in range(column // PIECE[1] * PIECE[1], right, PIECE[1]):
            columns, piece = whole(first, PIECE[1])
            if piece is not None:
                origin = (0, rows.start, columns.start)
                values = as_float32(piece, "projections", self._name, origin, copy=False)
                hash_pieces(origin, values, self.pieces)


def block_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a block of a table: what is read, and hashed, at a time."""
    columns = min(shape[1], _TOGETHER)
    return max(1, min(shape[0], _TOGETHER // columns)), columns


def hash_block(block: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(block).tobytes()).hexdigest()
