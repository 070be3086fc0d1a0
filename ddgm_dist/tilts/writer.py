"""Writing a tilt-series store, row block by row block; its attribute comes last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import ZstdCodec

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.array_io import BulkArray
from ddgm_dist.paths.files import delete_folder
from ddgm_dist.paths.free_space import write_error
from ddgm_dist.paths.place import Place
from ddgm_dist.paths.store_name import check_store_name
from ddgm_dist.paths.zarr_store import zarr_store
from ddgm_dist.tilts.claim import Claim, Resume, claim_series
from ddgm_dist.tilts.digests import CHUNK_COLUMNS, CHUNK_ROWS, Digests
from ddgm_dist.tilts.making_record import make_record
from ddgm_dist.tilts.metadata import (
    ARRAY,
    ATTRIBUTE,
    TiltSeriesMeta,
    check_meta,
    dump_meta,
    parse_meta,
)
from ddgm_dist.tilts.reader import TiltSeries
from ddgm_dist.tilts.record import folder_of, save_record
from ddgm_dist.tilts.survey import Survey, survey

__all__ = ["TiltSeriesWriter", "create_tilt_series"]


class TiltSeriesWriter:
    """Writes a new tilt-series store row block by row block; made by `create_tilt_series`.

    Until it is closed, what was at the place before stays there. As a context manager it is closed on
    leaving the block; an exception deletes what was written.
    """

    def __init__(
        self,
        path: Place,
        claim: Claim,
        group: zarr.Group,
        meta: TiltSeriesMeta,
        *,
        resumable: bool = False,
    ) -> None:
        array = group[ARRAY]
        assert isinstance(array, zarr.Array)
        self._place, self.path = path, str(path)
        self._claim, self._group, self._meta = claim, group, meta
        self._resumable = resumable
        self._array, self._shape = array, (array.shape[0], array.shape[1], array.shape[2])
        self._bulk = BulkArray(array, claim.work / ARRAY, writable=True)
        self._digests = Digests(self._shape, self._read, self.path)

    def write(self, rows: slice, block: NDArray[Any], columns: slice = slice(None)) -> None:
        """Write the projections ``(tilt, rows, columns)`` of some rows; best are whole pieces.

        Pieces are 8 rows high and 8192 columns wide: parts of them are read back to be hashed. Columns
        must be whole chunks, of 1024. Several threads may write at a time.

        Raises
        ------
        ValueError
            The block has another shape than rows and columns ask for, or the columns cut a chunk.
        StorageError
            The write failed, for example because the disk is full.
        """
        tilts, height, width = self._shape
        start, stop, _ = rows.indices(height)
        left, right, _ = columns.indices(width)
        if block.shape != (tilts, stop - start, right - left):
            raise ValueError(f"block {block.shape} is not {(tilts, stop - start, right - left)}")
        if left % CHUNK_COLUMNS or (right % CHUNK_COLUMNS and right != width):
            raise ValueError(f"columns {left}:{right} are not whole chunks of {CHUNK_COLUMNS}")
        self._claim.lease.check()  # a writer that was cut off must not write what another one does
        block = block.astype(self._array.dtype, copy=False)
        self._bulk.write((slice(None), slice(start, stop), slice(left, right)), block)
        self._digests.add(start, left, block)

    def _read(self, rows: slice, columns: slice) -> NDArray[Any]:
        return self._bulk.read((slice(None), rows, columns))

    def adopt(self, row: int, pieces: NDArray[np.uint8], chunks: NDArray[np.uint8]) -> None:
        """Take over the digests of rows that another process has written.

        Parameters
        ----------
        row
            First row, which begins a chunk.
        pieces, chunks
            Digests of all pieces ``(row, column, tilt, 32)`` and of all chunks ``(row, column, 32)`` of
            some rows; see `ddgm_dist.tilts.digests.Digests`.
        """
        self._digests.adopt(row, pieces, chunks)

    def check(self) -> None:
        """Make sure that no other writer has taken over.

        Raises
        ------
        StorageError
            One has; see :meth:`ddgm_dist.records.lease.Lease.check`.
        """
        self._claim.lease.check()

    @property
    def work(self) -> Place:
        """Place where the store is written, until it is closed."""
        return self._claim.work

    @property
    def sealed(self) -> bool:
        """True if the store is whole, and only has to be put in its place."""
        return ATTRIBUTE in self._group.attrs

    def close(self, seen: Survey | None = None, *, tidy: Callable[[], None] | None = None) -> None:
        """Declare the store complete, and put it in its place.

        Parameters
        ----------
        seen
            Survey of the pixels, if it has been made while they were written; else all are read.
        tidy
            Called when the store is whole, before it is put in its place.

        Raises
        ------
        StorageError
            Rows were never written (they still can be); or the store cannot be put in its place, and
            has been deleted.
        """
        if not self.sealed:
            self._refuse_missing()
        try:
            self._claim.lease.check()
            if not self.sealed:
                self._seal(seen)
            if tidy is not None:
                tidy()
            self._claim.publish(_redirect)
        except BaseException as error:
            self._give_up()
            if isinstance(error, OSError):
                raise write_error(self._place, 4096, error) from error
            raise
        self._claim.release()

    def keep(self) -> None:
        """End without a store at the place; what was written stays, to be resumed."""
        self._claim.release()

    def discard(self) -> None:
        """End without a store at the place, and delete what was written."""
        self._claim.discard()

    def _give_up(self) -> None:
        if self._resumable:
            self.keep()
        else:
            self.discard()

    def _refuse_missing(self) -> None:
        missing = self._digests.missing_rows()
        if missing.size:
            raise StorageError(
                f"{self.path} is incomplete: {missing.size} rows were never written whole, "
                f"the first is {missing[0]}"
            )

    def _seal(self, seen: Survey | None) -> None:
        """Write the record of the pixels, and the attribute that makes the store whole."""
        digests = self._digests
        # As it is read again: whole numbers have become floats.
        meta = parse_meta(dump_meta(self._meta), self.path)
        series = TiltSeries(self.work, self.work, self._array, meta)
        record = make_record(series, seen or survey(series, digests.pieces))
        delete_folder(folder_of(self.work))  # a writer that was interrupted may have begun it
        seal = save_record(self.work, record, digests.pieces, digests.chunks)
        self._group.attrs[ATTRIBUTE] = {
            **dump_meta(self._meta),
            "id": record.identity,
            "record": seal,
        }

    def __enter__(self) -> TiltSeriesWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None:
                self.close()
        except BaseException:
            self._claim.discard()
            raise
        if kind is not None:
            self._claim.discard()


def _redirect(attributes: dict[str, Any], folder: str) -> dict[str, Any]:
    """Attributes of a group whose arrays lie in a folder: unchanged, as ``folder`` is added later."""
    return attributes


def create_tilt_series(
    place: Place,
    shape: tuple[int, int, int],
    meta: TiltSeriesMeta,
    *,
    dtype: DTypeLike = "float32",
    overwrite: bool = False,
    checked: bool = False,
    resume: Resume | None = None,
) -> TiltSeriesWriter:
    """Make an empty store for projections of shape ``(tilt, y, u)``.

    Chunks hold all tilts of 8 rows and at most 1024 columns, compressed with zstd (level 1, with
    checksum). The fill value of floating-point projections is NaN, so that a lost chunk is loud.

    What is at the place is replaced when the writer is closed, and not before.

    Parameters
    ----------
    place
        Place of the store.
    shape, dtype
        Shape and dtype of its array.
    meta
        Metadata of the series.
    overwrite
        Replace a store that is there.
    checked
        The metadata have passed `check_meta`.
    resume
        Decides of the unfinished store of a writer that was interrupted, by its place, whether it is
        resumed: it must have been made with the same shape and dtype. Else it is deleted, as it is
        without this function. Object stores keep none.

    Raises
    ------
    InputError
        The output exists and ``overwrite`` is false, it is no store, or another process writes to it.
        The metadata fail `check_meta`. The shape or the dtype is unusable.
    StorageError
        The store cannot be written.
    """
    check_store_name(place)
    kind = np.dtype(dtype).kind
    if kind not in "fiu" or len(shape) != 3 or min(shape) < 1:
        raise InputError("projections", f"{dtype} {shape}", "must be numbers of shape (tilt, y, u)")
    if not checked:
        check_meta(meta, shape[0], str(place))
    claim, resumed = claim_series(place, overwrite=overwrite, resume=resume)
    try:
        group = _open(claim.work) if resumed else _create(claim.work, shape, dtype)
        return TiltSeriesWriter(place, claim, group, meta, resumable=resume is not None)
    except BaseException as error:
        if resumed:
            claim.release()
        else:
            claim.discard()
        if isinstance(error, OSError):
            raise write_error(place, 4096, error) from error
        raise


def _open(place: Place) -> zarr.Group:
    """The group of an unfinished store."""
    try:
        return zarr.open_group(zarr_store(place), mode="r+")
    except (OSError, StorageError):
        raise
    except Exception as error:  # zarr raises many types for damaged metadata
        raise StorageError(
            f"{place}, which an interrupted writer left, cannot be opened ({error}); delete it, and "
            "run again"
        ) from error


def _create(place: Place, shape: tuple[int, int, int], dtype: DTypeLike) -> zarr.Group:
    """The group, without its attribute, and the empty array."""
    group = zarr.create_group(zarr_store(place), zarr_format=3)
    group.create_array(
        ARRAY,
        shape=shape,
        chunks=(shape[0], min(CHUNK_ROWS, shape[1]), min(CHUNK_COLUMNS, shape[2])),
        dtype=np.dtype(dtype),
        fill_value=float("nan") if np.dtype(dtype).kind == "f" else 0,
        compressors=ZstdCodec(level=1, checksum=True),
        dimension_names=("tilt", "y", "u"),
    )
    return group
