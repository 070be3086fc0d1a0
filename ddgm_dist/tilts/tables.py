"""The digests of a recorded series, read as far as they are needed and compared with the record."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ddgm_dist.errors import StorageError
from ddgm_dist.paths.array_io import BulkArray
from ddgm_dist.paths.place import Place
from ddgm_dist.paths.zarr_store import zarr_store
from ddgm_dist.tilts.digests import block_shape, fingerprint_of, hash_block
from ddgm_dist.tilts.record import Record, folder_of

__all__ = ["Tables"]

# Blocks that a reader keeps: 4 MiB.
_KEPT_BLOCKS = 64


class Tables:
    """The digests of a recorded series, read as far as they are needed.

    Parameters
    ----------
    content
        Place of the array of the series.
    record
        Record of the series.
    """

    def __init__(self, content: Place, record: Record) -> None:
        self.folder, self._record = folder_of(content), record
        self._opened = dict[str, BulkArray]()
        self._shapes = dict[str, tuple[int, ...]]()
        # Blocks that have been compared with the record: the last few are kept.
        self._blocks = dict[tuple[str, int, int], NDArray[np.uint8]]()

    def chunks(self, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """Digests ``(rows, columns, 32)`` of some chunks, numbered along rows and columns."""
        return self._read("chunks", rows, columns)

    def pieces_of(self, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """Digests ``(row, column, tilt, 32)`` of some pieces, numbered along rows and columns."""
        tilts = self._record.shape[0]
        wanted = slice(columns.start * tilts, columns.stop * tilts)
        table = self._read("pieces", rows, wanted)
        return table.reshape(len(table), -1, tilts, 32)

    def pieces(self) -> NDArray[np.uint8]:
        """Digests of all pieces, ``(row, column, tilt, 32)``.

        Raises
        ------
        StorageError
            They are not those that the fingerprint was made of.
        """
        record = self._record
        table = self._table("pieces").read((slice(None),) * 3)
        pieces = table.reshape(len(table), -1, record.shape[0], 32)
        if fingerprint_of(record.shape, record.meta, pieces) != record.fingerprint:
            raise self._damaged("pieces do not make the fingerprint")
        return pieces

    def _read(self, name: str, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """A part of a table, of blocks that are those of the record.

        Raises
        ------
        StorageError
            They are not.
        """
        self._table(name)
        height, width = block_shape(self._shapes[name])
        out = np.empty((rows.stop - rows.start, columns.stop - columns.start, 32), np.uint8)
        for i in range(rows.start // height, -(-rows.stop // height)):
            for j in range(columns.start // width, -(-columns.stop // width)):
                block = self._checked_block(name, i, j)
                top, left = i * height, j * width
                a, b = max(top, rows.start), min(top + len(block), rows.stop)
                c, d = max(left, columns.start), min(left + block.shape[1], columns.stop)
                own = block[a - top : b - top, c - left : d - left]
                out[a - rows.start : b - rows.start, c - columns.start : d - columns.start] = own
        return out

    def _checked_block(self, name: str, i: int, j: int) -> NDArray[np.uint8]:
        if (found := self._blocks.get((name, i, j))) is not None:
            return found
        shape = self._shapes[name]
        height, width = block_shape(shape)
        rows = slice(i * height, min((i + 1) * height, shape[0]))
        columns = slice(j * width, min((j + 1) * width, shape[1]))
        block = self._table(name).read((rows, columns, slice(None)))
        if hash_block(block) != self._record.tables[name][i * -(-shape[1] // width) + j]:
            raise self._damaged(f"{name} are not those of the record")
        self._blocks[name, i, j] = block
        for old in list(self._blocks)[:-_KEPT_BLOCKS]:
            self._blocks.pop(old, None)
        return block

    def _table(self, name: str) -> BulkArray:
        if name not in self._opened:
            place = self.folder / name
            try:
                array = zarr.open_array(zarr_store(place), mode="r")
            except StorageError:
                raise
            except Exception as error:  # zarr raises many types for damaged metadata
                raise self._damaged(f"{name} cannot be opened ({error})") from error
            self._check_shape(name, array)
            self._opened[name] = BulkArray(
                array, place, axes=("rows of digests", "columns of digests", "bytes"), complete=True
            )
        return self._opened[name]

    def _check_shape(self, name: str, array: Any) -> None:
        """Refuse a table that cannot be that of the record."""
        recorded = self._record.tables.get(name, ())
        if not isinstance(array, zarr.Array) or array.ndim != 3 or array.dtype != np.uint8:
            raise self._damaged(f"{name} is no table of digests")
        height, width = block_shape(array.shape)
        self._shapes[name] = array.shape
        if -(-array.shape[0] // height) * -(-array.shape[1] // width) != len(recorded):
            raise self._damaged(f"{name} are not those of the record")

    def _damaged(self, why: str) -> StorageError:
        return StorageError(
            f"{self.folder}: {why}; put a good copy of the tilt series in its place, or delete this "
            "folder to have all pixels read and taken as they are"
        )
