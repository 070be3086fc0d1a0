"""Writing a tilt-series store, row block by row block; its attribute comes last."""

from __future__ import annotations

import contextlib
import uuid
from typing import Any, get_args

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import ZstdCodec

from ddgm_dist.core.geometry import Boundary
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.array_io import BulkArray
from ddgm_dist.paths.claim import SIDECAR, is_claim, prepare_output
from ddgm_dist.paths.files import delete, delete_folder, listdir
from ddgm_dist.paths.free_space import write_error
from ddgm_dist.paths.place import ObjectPath, Place
from ddgm_dist.paths.store_name import check_store_name
from ddgm_dist.paths.zarr_store import zarr_store
from ddgm_dist.pixels.observations import Observations
from ddgm_dist.records.lease import Lease
from ddgm_dist.records.replacement import Redirect, Replacement
from ddgm_dist.tilts.digests import CHUNK_COLUMNS, CHUNK_ROWS, Digests
from ddgm_dist.tilts.estimate import estimate
from ddgm_dist.tilts.metadata import (
    ARRAY,
    ATTRIBUTE,
    TiltSeriesMeta,
    check_meta,
    dump_meta,
    parse_meta,
)
from ddgm_dist.tilts.reader import TiltSeries
from ddgm_dist.tilts.record import Estimate, Record, folder_of, save_record
from ddgm_dist.tilts.survey import survey

__all__ = ["TiltSeriesWriter", "create_tilt_series"]


class TiltSeriesWriter:
    """Writes a new tilt-series store row block by row block; made by `create_tilt_series`.

    Until it is closed, what was at the place before stays there. As a context manager it is closed on
    leaving the block; an exception deletes what was written.
    """

    def __init__(
        self, path: Place, claim: Replacement | _New, group: zarr.Group, meta: TiltSeriesMeta
    ) -> None:
        array = group[ARRAY]
        assert isinstance(array, zarr.Array)
        self._place, self.path = path, str(path)
        self._claim, self._group, self._meta = claim, group, meta
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

    def close(self) -> None:
        """Declare the store complete, and put it in its place.

        Raises
        ------
        StorageError
            Rows were never written (they still can be); or the store cannot be put in its place, and
            has been deleted.
        """
        missing = self._digests.missing_rows()
        if missing.size:
            raise StorageError(
                f"{self.path} is incomplete: {missing.size} rows were never written whole, "
                f"the first is {missing[0]}"
            )
        try:
            self._claim.lease.check()
            # A name that no other series has distinguishes two of one shape.
            identity = uuid.uuid4().hex
            digests = self._digests
            record = self._record(identity)
            seal = save_record(self._claim.work, record, digests.pieces, digests.chunks)
            self._group.attrs[ATTRIBUTE] = {
                **dump_meta(self._meta),
                "id": identity,
                "record": seal,
            }
            self._claim.publish(_redirect)
        except OSError as error:
            self._claim.discard()
            raise write_error(self._place, 4096, error) from error
        except BaseException:
            self._claim.discard()
            raise
        self._claim.release()

    def _record(self, identity: str) -> Record:
        """Record of all pixels, which are read back in several threads."""
        # As it is read again: whole numbers have become floats.
        work, meta = self._claim.work, parse_meta(dump_meta(self._meta), self.path)
        series = TiltSeries(work, work, self._array, meta)
        seen = survey(series, self._digests.pieces)
        return Record(
            identity=identity,
            shape=self._shape,
            dtype=str(series.dtype),
            meta=meta,
            fingerprint=seen.fingerprint,
            bad=seen.bad,
            observations=seen.observations,
            estimates=_estimates(series, seen.observations),
        )

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


def _estimates(series: TiltSeries, observations: Observations) -> dict[str, Estimate]:
    """Estimates by boundary, for the stored thickness."""
    meta, found = series.meta, dict[str, Estimate]()
    if meta.thickness_px is None:
        return found
    for boundary in get_args(Boundary):
        geometry = series.geometry(meta.thickness_px, boundary=boundary)
        # Where nothing can be estimated, the run says so.
        with contextlib.suppress(InputError):
            found[boundary] = estimate(series, geometry, observations.judge(geometry).screen())
    return found


def _redirect(attributes: dict[str, Any], folder: str) -> dict[str, Any]:
    """Attributes of a group whose arrays lie in a folder: unchanged, as ``folder`` is added later."""
    return attributes


class _New:
    """A store in an object store where there is none: nothing is replaced."""

    def __init__(self, place: ObjectPath, held: Lease) -> None:
        self.work, self.lease = place, held
        self._published = self._ended = False

    def publish(self, redirect: Redirect) -> None:
        """Keep the store, which its attribute has made whole."""
        self._published = True

    def discard(self) -> None:
        if self._ended:
            return
        with contextlib.suppress(StorageError):
            self.lease.check()
            if not self._published:  # but for the lease
                delete_folder(folder_of(self.work))
                for name in listdir(self.work):
                    if name != SIDECAR:
                        delete_folder(self.work / name)
                        delete(self.work / name)
        self.release()

    def release(self) -> None:
        self._ended = True
        self.lease.release()


def create_tilt_series(
    place: Place,
    shape: tuple[int, int, int],
    meta: TiltSeriesMeta,
    *,
    dtype: DTypeLike = "float32",
    overwrite: bool = False,
    checked: bool = False,
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
    prepare_output(place, "out", overwrite=overwrite)
    lease = Lease(place)
    lease.acquire()
    swap = Replacement(place, lease)
    claim: Replacement | _New = swap
    try:
        # It may have been made before it was leased.
        prepare_output(place, "out", overwrite=overwrite)
        if isinstance(place, ObjectPath) and is_claim(place):
            claim = _New(place, lease)
        else:
            swap.begin()
        return TiltSeriesWriter(place, claim, _create(claim.work, shape, dtype), meta)
    except BaseException as error:
        claim.discard()
        if isinstance(error, OSError):
            raise write_error(place, 4096, error) from error
        raise


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
