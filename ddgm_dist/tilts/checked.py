"""Pixels that are compared with the digests of a record, and the error where they are others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.float32 import as_float32
from ddgm_dist.errors import StorageError
from ddgm_dist.paths.array_io import BulkArray
from ddgm_dist.tilts.digests import PIECE, empty_pieces, hash_pieces
from ddgm_dist.tilts.record import Record
from ddgm_dist.tilts.tables import Tables

__all__ = ["Checked"]

_SHOWN = 3


class Checked(ABC):
    """Reads of a recorded series; all pixels are compared when they are first read.

    Parameters
    ----------
    path
        Path or URL of the series, for messages.
    bulk
        Its array.
    record, tables
        Its record, and the digests that belong to it.
    """

    # What the recorded pixels are, and what to do where others are wanted.
    recorded = "were written"
    on_purpose = "delete {} and give another output"

    def __init__(self, path: str, bulk: BulkArray, record: Record, tables: Tables) -> None:
        self._path, self._bulk, self.tables = path, bulk, tables
        self._shape, self._dtype = record.shape, record.dtype

    @abstractmethod
    def is_done(self, rows: tuple[int, int], first: Sequence[int], width: int) -> bool:
        """True if all pixels of some lines have been compared before."""

    @abstractmethod
    def read_lines(self, rows: tuple[int, int], first: Sequence[int], width: int) -> NDArray[Any]:
        """Columns ``[first[t], first[t] + width)`` of tilt t, ``(tilt, rows, width)``.

        Raises
        ------
        StorageError
            Chunks are damaged, unreadable, missing, or not those that are recorded.
        """

    def error(self, rows: slice, columns: slice) -> StorageError:
        """The error that pixels are not the recorded ones, with the tilts at fault.

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
            f"{columns.start} to {columns.stop - 1} hold other pixels than {self.recorded}: their "
            "digest is not the recorded one. Put a good copy in its place and run the same command "
            "again, what is finished is kept; or, if they were changed on purpose, "
            + self.on_purpose.format(self.tables.folder)
        )
