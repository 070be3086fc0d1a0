"""Receipts of what is finished of a store that is being written: small files within it.

A file is written when what it is about is on the disk. So a writer that was killed is resumed by the
next one, where source and options are the same.
"""

from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.errors import StorageError
from ddgm_dist.paths.claim import SIDECAR
from ddgm_dist.paths.files import delete_folder, files_below, listdir, read_bytes, write_bytes
from ddgm_dist.paths.place import Place
from ddgm_dist.pixels.scan import Scan
from ddgm_dist.tilts.bad_pixels import BadPixels
from ddgm_dist.tilts.digests import PIECE, cut
from ddgm_dist.tilts.strips import Strip

__all__ = ["Receipts", "Written", "chunks_there"]

_FOLDER, _RECIPE = "writing", "recipe.json"
_ROWS, _VIEWS, _KEPT = "rows", "views-done", "views"

_log = logging.getLogger("ddgm_dist")

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Written:
    """Finished rows.

    Attributes
    ----------
    number
        Number of the block.
    strip
        Survey of its pixels, with the digests of its pieces.
    chunks
        Digests of its chunks, ``(row, column, 32)``.
    """

    number: int
    strip: Strip
    chunks: NDArray[np.uint8]


@dataclass(frozen=True)
class Receipts:
    """The files of one unfinished store; can be pickled.

    Attributes
    ----------
    work
        Place of the store.
    recipe
        Text that says what is written, and how; another one makes another store.
    kept
        Whether there are any: not in an object store, where nothing is resumed.
    """

    work: Place
    recipe: str
    kept: bool

    @property
    def views_place(self) -> Place:
        """Place of views that are kept until they are transposed."""
        return self._folder / _KEPT

    @property
    def _folder(self) -> Place:
        return self.work / SIDECAR / _FOLDER

    def begin(self) -> None:
        """Say what will be written; the empty store is there."""
        write_bytes(self._folder / _RECIPE, json.dumps({"recipe": self.recipe}).encode())

    def are_of(self, recipe: str) -> bool | None:
        """Return whether the store is of a recipe; None if it says nothing."""
        data = read_bytes(self._folder / _RECIPE)
        try:
            return None if data is None else bool(json.loads(data)["recipe"] == recipe)
        except (ValueError, KeyError, TypeError):
            return None

    def check(self) -> None:
        """Make sure that the store is still to be written: a writer was perhaps cut off.

        Raises
        ------
        StorageError
            It is not there any more.
        """
        if self.kept and not self.are_of(self.recipe):
            raise StorageError(
                f"{self.work} was deleted while it was being written; run the command again"
            )

    def add(self, written: Written) -> None:
        """Record finished rows."""
        if not self.kept:
            return
        strip, file = written.strip, io.BytesIO()
        assert strip.pieces is not None, "they were asked for"
        assert strip.scan is not None, "it was asked for"
        arrays: dict[str, Any] = {
            "rows": np.array([strip.rows.start, strip.rows.stop]),
            "pieces": strip.pieces,
            "chunks": written.chunks,
            "bad": np.array([strip.bad.count]),
            "first": np.array(strip.bad.first, dtype=np.int64).reshape(-1, 3),
            **strip.scan.to_arrays(),
        }
        np.savez(file, **arrays)
        write_bytes(self._file(written.number), file.getvalue())

    def _file(self, number: int) -> Place:
        return self._folder / _ROWS / f"{number:08}.npz"

    def add_view(self, tilt: int) -> None:
        """Record that a view is kept."""
        if self.kept:
            write_bytes(self._folder / _VIEWS / f"{tilt:08}", b"")

    def read(self, number: int, rows: slice, shape: Shape) -> Written | None:
        """The record of some rows; None where there is none that can be used."""
        data = read_bytes(self._file(number))
        if data is None:
            return None
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return _parse(number, rows, shape, arrays)
        except (zipfile.BadZipFile, EOFError, KeyError, TypeError, ValueError, OSError) as error:
            _log.warning(
                "%s is damaged (%s), so its rows are written again", self._file(number), error
            )
            return None

    def numbers(self) -> frozenset[int]:
        """Numbers of all blocks that have a record."""
        return _numbers(listdir(self._folder / _ROWS)) if self.kept else frozenset()

    def views(self) -> frozenset[int]:
        """Views that are kept."""
        return _numbers(listdir(self._folder / _VIEWS)) if self.kept else frozenset()

    def tidy(self) -> None:
        """Delete all but what says that this is the store of the recipe."""
        for name in (_ROWS, _VIEWS, _KEPT):
            delete_folder(self._folder / name)

    def end(self, place: Place) -> None:
        """Delete the rest, when the store has got its place."""
        delete_folder(place / SIDECAR / _FOLDER, ignore_errors=True)


def _numbers(names: Iterable[str]) -> frozenset[int]:
    stems = (name.removesuffix(".npz") for name in names)
    return frozenset(int(stem) for stem in stems if stem.isdecimal())


def _parse(number: int, rows: slice, shape: Shape, arrays: Any) -> Written:
    tilts, _, width = shape
    if arrays["rows"].tolist() != [rows.start, rows.stop]:
        raise ValueError("it is of other rows")
    pieces, chunks, every = arrays["pieces"], arrays["chunks"], slice(0, tilts)
    if pieces.shape != (cut(rows.stop - rows.start, PIECE[0]), cut(width, PIECE[1]), tilts, 32):
        raise ValueError("its digests are of another series")
    first = tuple((int(t), int(y), int(u)) for t, y, u in arrays["first"])
    bad = BadPixels(int(arrays["bad"][0]), first)
    scan = Scan.from_arrays(shape, every, rows, arrays)
    return Written(number, Strip(every, rows, pieces, bad, scan), chunks)


def chunks_there(array: Place, grid: Sequence[int]) -> NDArray[np.bool_]:
    """Flags of the chunks of an array that have a file, by their index."""
    there = np.zeros(grid, dtype=bool)
    for parts in files_below(array / "c", len(grid)):
        if all(part.isdecimal() for part in parts):
            index = tuple(int(part) for part in parts)
            if all(i < n for i, n in zip(index, grid, strict=True)):
                there[index] = True
    return there
