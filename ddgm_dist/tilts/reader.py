"""Reading the pixels of a tilt-series store, and checking them against its record."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ddgm_dist.core.float32 import as_float32
from ddgm_dist.core.geometry import Boundary, Geometry
from ddgm_dist.paths.array_io import BulkArray
from ddgm_dist.paths.place import Place
from ddgm_dist.tilts.checked import Checked
from ddgm_dist.tilts.checked_chunks import CheckedChunks
from ddgm_dist.tilts.checked_pieces import CheckedPieces
from ddgm_dist.tilts.digests import empty_pieces, fingerprint_of, hash_pieces
from ddgm_dist.tilts.metadata import ARRAY, TiltSeriesMeta
from ddgm_dist.tilts.record import Kept, Record, identify, load_record
from ddgm_dist.tilts.strips import Slices, blocks_of
from ddgm_dist.tilts.tables import Tables

__all__ = ["TiltSeries"]

_BLOCK_BYTES = 64 * 2**20


class TiltSeries:
    """An open, validated tilt-series store; made by `ddgm_dist.tilts.series.open_tilt_series`.

    Where the store has a record, each chunk is checked against it when it is first read.

    Parameters
    ----------
    path
        Place of the store.
    content
        Place of the array: the store, or a folder in it.
    array
        Array of the projections.
    meta
        Metadata of the projections.
    identity
        Identifier that no other series has; empty if its writer gave none.
    kept
        Where a run keeps the record of a series whose writer left none.
    seal
        SHA-256 of its record, as the attribute of the store has it; empty if there is none.

    Attributes
    ----------
    place
        Place of the store.
    path
        Absolute path of the store, or its URL.
    meta
        Metadata of the series.
    shape
        ``(tilt, y, u)``.
    dtype
        Stored dtype.
    identity, kept, seal
        As the parameters.
    """

    def __init__(
        self,
        path: Place,
        content: Place,
        array: zarr.Array[Any],
        meta: TiltSeriesMeta,
        identity: str = "",
        kept: Kept | None = None,
        seal: str = "",
    ) -> None:
        self.place, self.path, self._content, self.kept = path, str(path), content, kept
        self.identity, self.meta, self.seal = identity, meta, seal
        self.shape: tuple[int, int, int] = (array.shape[0], array.shape[1], array.shape[2])
        self.dtype: np.dtype[Any] = np.dtype(array.dtype)
        chunk = array.shards or array.chunks
        self._chunk: tuple[int, int, int] = (int(chunk[0]), int(chunk[1]), int(chunk[2]))
        # A chunk that was lost must not pass for zeros, or for pixels to be masked.
        self._bulk = BulkArray(
            array, content / ARRAY, axes=("tilts", "rows", "columns"), complete=True
        )

    @cached_property
    def record(self) -> Record | None:
        """The record of the pixels that its writer left, or that a run keeps; None without any.

        Raises
        ------
        InputError
            The array is not of the shape and the dtype that were written.
        """
        found = load_record(self._content, self.identity, self.seal) if self.seal else None
        if found is not None:
            self.kept = None
        elif self.kept is not None:
            found = load_record(self.kept.content, self.kept.identity)
        if found is not None:
            found.refuse_other(self.shape, self.dtype, self.path)
        return found

    def keep(self, kept: Kept) -> None:
        """Compare what is read with a record that a run keeps, where the writer left none."""
        self.kept = kept
        for name in ("record", "checked"):
            self.__dict__.pop(name, None)

    def identify(self) -> str:
        """Identity that a kept record has; see `ddgm_dist.tilts.record.identify`."""
        return identify(self.path, self._content / ARRAY)

    @cached_property
    def checked(self) -> Checked | None:
        """Reads pixels and compares them with the record; None where there is none."""
        if self.record is None:
            return None
        if self.kept is None:
            tables = Tables(self._content, self.record)
            return CheckedChunks(self.path, self._bulk, self.record, tables)
        tables = Tables(self.kept.content, self.record)
        return CheckedPieces(self.path, self._bulk, self.record, tables)

    def geometry(
        self, thickness: int, *, rows: int | None = None, boundary: Boundary = "extended"
    ) -> Geometry:
        """Geometry of the series, or of ``rows`` of it, for a specimen of a thickness in voxels."""
        return Geometry(
            angles_deg=self.meta.angles_deg,
            thickness=thickness,
            rows=rows or self.shape[1],
            field=self.shape[2],
            shifts_px=self.meta.shifts_px or (),
            boundary=boundary,
        )

    @property
    def may_be_bad(self) -> bool:
        """True if the dtype can hold NaN or infinite pixels."""
        return np.issubdtype(self.dtype, np.floating)

    def read(
        self, rows: slice, columns: slice = slice(None), tilts: slice = slice(None)
    ) -> NDArray[np.float32]:
        """Projections ``(tilt, rows, columns)`` as a fresh, writable float32 array.

        Raises
        ------
        IndexError
            A slice reaches outside the projections.
        StorageError
            Chunks are damaged, unreadable, missing, or not those that were written.
        """
        (t, t_stop), (y, y_stop), (u, u_stop) = (
            _within(part, extent, axis)
            for part, extent, axis in zip(
                (tilts, rows, columns), self.shape, ("tilts", "rows", "columns"), strict=True
            )
        )
        first, width = [u] * self.shape[0], u_stop - u
        if self.checked is None or self.checked.is_done((y, y_stop), first, width):
            block = self._bulk.read((tilts, rows, columns))
            return as_float32(block, "tilts", self.path, (t, y, u))
        block = self.checked.read_lines((y, y_stop), first, width)[t:t_stop]
        return as_float32(block, "tilts", self.path, (t, y, u), copy=False)

    def read_lines(self, rows: slice, first: Sequence[int], width: int) -> NDArray[np.float32]:
        """Another range of columns of each tilt: ``[first[t], first[t] + width)`` of tilt t.

        Tilts of one chunk are read one after the other, so that its decoded form is shared
        through the cache.

        Returns
        -------
        Fresh, writable float32 array ``(tilt, rows, width)``.

        Raises
        ------
        IndexError
            A range reaches outside the projections, or there is not one per tilt.
        StorageError
            Chunks are damaged, unreadable, missing, or not those that were written.
        """
        tilts, height, field = self.shape
        if len(first) != tilts:
            raise IndexError(f"{len(first)} ranges of columns for {tilts} tilts")
        if len(set(first)) == 1:
            return self.read(rows, slice(first[0], first[0] + width))
        start, stop = _within(rows, height, "rows")
        if min(first) < 0 or max(first) + width > field:
            raise IndexError(f"columns {min(first)}:{max(first) + width} are not within 0:{field}")
        if self.checked is not None and not self.checked.is_done((start, stop), first, width):
            block = self.checked.read_lines((start, stop), first, width)
            return as_float32(block, "tilts", self.path, (0, start, min(first)), copy=False)
        out = np.empty((tilts, stop - start, width), dtype=np.float32)
        order = sorted(range(tilts), key=lambda tilt: first[tilt])
        parts = [(slice(t, t + 1), rows, slice(first[t], first[t] + width)) for t in order]
        # What one read decodes: whole chunks, of which it takes a part.
        chunks = (width // self._chunk[2] + 2) * ((stop - start) // self._chunk[1] + 2)
        decoded = chunks * math.prod(self._chunk) * self.dtype.itemsize
        reads = self._bulk.read_each(parts, in_flight=max(1, _BLOCK_BYTES // decoded))
        for tilt, block in zip(order, reads, strict=True):
            origin = (tilt, start, first[tilt])
            out[tilt] = as_float32(block, "tilts", self.path, origin, copy=False)[0]
        return out

    def read_unchecked(self, block: Slices) -> NDArray[np.float32]:
        """A block ``(tilts, rows, columns)``, not compared with the record; perhaps not writable."""
        origin = (block[0].start, block[1].start, block[2].start)
        return as_float32(self._bulk.read(block), "tilts", self.path, origin, copy=False)

    def blocks(self, threads: int = 1) -> Iterator[Slices]:
        """Blocks ``(tilts, rows, columns)`` that cover the series: about 64 MiB of float32 at a time.

        They hold whole chunks as far as that goes, and whole pieces of the fingerprint.

        Parameters
        ----------
        threads
            Number of blocks in memory at a time.
        """
        return blocks_of(self.shape, self._chunk, _BLOCK_BYTES // threads)

    def fingerprint(self) -> str:
        """SHA-256 of the pixels (as float32) and of all metadata but the description.

        Two stores with the same content have the same fingerprint, whatever their chunks and
        dtype. The pixels are read only where there is no record.

        Raises
        ------
        StorageError
            Chunks are damaged, unreadable or missing; or the record is.
        """
        if self.record is None or self.checked is None:
            pieces = empty_pieces(self.shape)
            for block in self.blocks():
                origin = (block[0].start, block[1].start, block[2].start)
                hash_pieces(origin, self.read_unchecked(block), pieces)
        elif self.record.describes(self.meta):
            return self.record.fingerprint
        else:
            pieces = self.checked.tables.pieces()
        return fingerprint_of(self.shape, self.meta, pieces)


def _within(part: slice, extent: int, axis: str) -> tuple[int, int]:
    """First and stop of a slice, which must lie within the extent."""
    start = 0 if part.start is None else int(part.start)
    stop = extent if part.stop is None else int(part.stop)
    if not 0 <= start <= stop <= extent or part.step not in (None, 1):
        raise IndexError(f"{axis} {part} are not within 0..{extent}, step 1")
    return start, stop
