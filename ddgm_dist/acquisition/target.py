"""The work of a worker: blocks of rows of a tilt series, or whole views to be transposed later.

Workers import this module, so nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import zarr
from numpy.typing import NDArray

from ddgm_dist.acquisition.receipts import Receipts, Written
from ddgm_dist.core.box import Box
from ddgm_dist.core.float32 import as_float32
from ddgm_dist.errors import InputError
from ddgm_dist.paths.array_io import BulkArray
from ddgm_dist.paths.place import Place
from ddgm_dist.paths.zarr_store import zarr_store
from ddgm_dist.tile.host import give_back_memory
from ddgm_dist.tilts.digests import CHUNK_COLUMNS, CHUNK_ROWS, cut, digest_of_chunk
from ddgm_dist.tilts.metadata import ARRAY
from ddgm_dist.tilts.strips import Slices, StripSlices, Task, read_strip

__all__ = ["Block", "Keeping", "StoredViews", "Target", "Views", "keep_view", "write_block"]

# Float32 that is read at a time, where pieces allow it.
_MOST_BYTES = 64 * 2**20
_BAND_BYTES = 32 * 2**20

Floats = NDArray[np.float32]
Shape = tuple[int, int, int]


class Views(Protocol):
    """Views of a tilt series, to be stored; can be pickled.

    Attributes
    ----------
    by_view
        Whether reading some rows of a view costs about as much as reading all of it, as for images
        that are decoded or rotated whole. Each view is then read once, from its first row to its last.
    """

    @property
    def by_view(self) -> bool:
        """See the attribute."""
        ...

    @property
    def shape(self) -> Shape:
        """``(tilt, y, u)``."""
        ...

    def read(self, box: Box) -> Floats:
        """The pixels of a box as float32 ``(tilt, y, u)``; NaN where nothing was measured."""
        ...


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


class Target:
    """A store that is being written, and where its pixels come from; can be pickled.

    Parameters
    ----------
    source
        The views, or what has been kept of them.
    work
        Place where the store is written.
    dtype
        Dtype in which pixels are stored.
    name
        Name of the source, for messages.
    receipts
        Where finished blocks are recorded.
    """

    def __init__(
        self, source: Views, work: Place, dtype: np.dtype[Any], name: str, receipts: Receipts
    ) -> None:
        self.source, self.work, self.dtype, self.name = source, work, dtype, name
        self.receipts = receipts
        self.shape, self.may_be_bad = source.shape, dtype.kind == "f"

    def __getstate__(self) -> dict[str, Any]:
        """Open arrays do not cross process borders."""
        return {k: v for k, v in self.__dict__.items() if k != "array"}

    @cached_property
    def array(self) -> BulkArray:
        """The projections of the store."""
        return _open(self.work / ARRAY, writable=True)

    def stored(self, box: Box) -> NDArray[Any]:
        """The pixels of a box as they are stored.

        Raises
        ------
        InputError
            A pixel cannot be stored in the dtype without a change.
        """
        values = self.source.read(box)
        if values.shape != box.shape:
            raise ValueError(f"the source read {values.shape} where {box.shape} was asked for")
        return _as_stored(values, self.dtype, self.name, box.start)

    def read(self, rows: slice, columns: slice = slice(None), tilts: slice = slice(None)) -> Floats:
        """Any pixels, as the store will give them."""
        return self.floats(self.stored(self.box((tilts, rows, columns))))

    def read_unchecked(self, block: Slices) -> Floats:
        """As `read`."""
        return self.read(block[1], block[2], block[0])

    def floats(self, stored: NDArray[Any]) -> Floats:
        """Stored pixels as they are read."""
        return as_float32(stored, "source", self.name, copy=False)

    def box(self, parts: Slices) -> Box:
        """A block as a box."""
        bounds = [part.indices(n)[:2] for part, n in zip(parts, self.shape, strict=True)]
        (a, b, c), (d, e, f) = zip(*bounds, strict=True)
        return Box((a, b, c), (d, e, f))


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
    for columns_here in _steps(columns, max(1, chunks) * CHUNK_COLUMNS):
        yield tilts, rows, columns_here


def _fewer_views(block: Slices) -> Iterator[Slices]:
    """Parts of a block, of whole pieces."""
    tilts, rows, columns = block
    views = _MOST_BYTES // _nbytes((slice(0, 1), rows, columns))
    for tilts_here in _steps(tilts, max(1, views)):
        yield tilts_here, rows, columns


def _steps(part: slice, step: int) -> Iterator[slice]:
    for start in range(part.start, part.stop, step):
        yield slice(start, min(start + step, part.stop))


class StoredViews:
    """Views that have been read and kept beside the store, to be read by rows; can be pickled.

    Parameters
    ----------
    place
        Place of the array.
    shape, dtype
        Shape and dtype of the store.
    rows
        Rows of its chunks, each of one view.
    """

    by_view = False

    def __init__(self, place: Place, shape: Shape, dtype: np.dtype[Any], rows: int) -> None:
        self.place, self.shape, self.dtype, self.rows = place, shape, dtype, rows

    def __getstate__(self) -> dict[str, Any]:
        """Open arrays do not cross process borders."""
        return {k: v for k, v in self.__dict__.items() if k != "array"}

    @cached_property
    def array(self) -> BulkArray:
        """The array."""
        return _open(self.place, writable=True)

    def read(self, box: Box) -> Floats:
        """The pixels of a box."""
        block = self.array.read(box.slices())
        return as_float32(block, "source", self.place, box.start, copy=False)


@dataclass(frozen=True)
class Keeping:
    """Views that are read, and where they are kept."""

    target: Target
    views: StoredViews


def keep_view(common: Keeping, tilt: int) -> None:
    """Read one view, in bands, and keep it beside the store.

    Raises
    ------
    InputError
        The source cannot be read, or a pixel cannot be stored.
    StorageError
        It cannot be written, or another process has taken over.
    """
    target, views = common.target, common.views
    target.receipts.check()
    _, height, width = views.shape
    step = max(1, _BAND_BYTES // (4 * width * views.rows)) * views.rows
    for rows in _steps(slice(0, height), step):
        stored = target.stored(Box((tilt, rows.start, 0), (tilt + 1, rows.stop, width)))
        views.array.write((slice(tilt, tilt + 1), rows, slice(0, width)), stored)
    target.receipts.add_view(tilt)
    give_back_memory()


def _open(place: Place, *, writable: bool) -> BulkArray:
    array = zarr.open_array(zarr_store(place), mode="r+" if writable else "r")
    axes = ("tilts", "rows", "columns")
    return BulkArray(array, place, writable=writable, axes=axes, complete=True, one_core=True)


def _as_stored(values: Floats, dtype: np.dtype[Any], name: str, origin: Shape) -> NDArray[Any]:
    """The values in the dtype of the store, which must hold them.

    Raises
    ------
    InputError
        It does not: a value is no whole number of its range, or is too large for it.
    """
    if dtype == np.float32:
        return values
    with np.errstate(invalid="ignore", over="ignore"):
        stored = values.astype(dtype)
        if dtype.kind == "f":
            wrong = np.isinf(stored) & np.isfinite(values)
        else:
            wrong = stored.astype(np.float32) != values
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        at = tuple(a + b for a, b in zip(first, origin, strict=True))
        raise InputError(
            "source", name, f"holds {values[first]:g} at {at}, which {dtype} cannot hold"
        )
    return stored
