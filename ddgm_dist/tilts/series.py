"""The tilt-series store: a Zarr group with the projections and what is known about each tilt.

Format version 1. Array ``projections`` of shape ``(tilt, y, u)``, floating point or integer, whose
values are line integrals; group attribute ``ddgm_dist`` =
``{"kind": "tilt-series", "version": 1, "angles_deg": [...], "shifts_px": [[dy, dx], ...] or null,
"pixel_size_nm": float or null, "thickness_px": int or null, "description": str}``. Only
``kind``, ``version`` and ``angles_deg`` are required, so a store can be made with zarr alone.

The attribute is written last: a store whose writer died half-way has none and is refused.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ddgm_dist.core.float32 import as_float32
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.array_io import BulkArray, InputReplacedError
from ddgm_dist.paths.claim import is_claim
from ddgm_dist.paths.files import exists, is_zarr
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.place import Place
from ddgm_dist.paths.safety import inner_name, refuse_links
from ddgm_dist.paths.zarr_store import zarr_store
from ddgm_dist.records.lease_holder import warn_of_writer
from ddgm_dist.tilts.bad_pixels import BadPixels, Origin, find_bad
from ddgm_dist.tilts.metadata import (
    ARRAY,
    ATTRIBUTE,
    MAX_ANGLE_DEG,
    TiltSeriesMeta,
    check_meta,
    parse_meta,
)
from ddgm_dist.tilts.writer import TiltSeriesWriter, create_tilt_series

__all__ = [
    "MAX_ANGLE_DEG",
    "BadPixels",
    "TiltSeries",
    "TiltSeriesMeta",
    "TiltSeriesWriter",
    "check_meta",
    "create_tilt_series",
    "find_bad",
    "open_series_at",
    "open_tilt_series",
    "reopen_tilt_series",
    "write_tilt_series",
]

_BLOCK_BYTES = 64 * 2**20
# Rows and columns of the pieces that are hashed; changing them changes every fingerprint.
_PIECE = (8, 8192)


class TiltSeries:
    """An open, validated tilt-series store; made by `open_tilt_series`.

    Attributes
    ----------
    place
        Of the store.
    path
        The same as text: an absolute path, or a URL.
    meta
        Its metadata.
    shape
        ``(tilt, y, u)``.
    dtype
        Stored dtype.
    identity
        What no other series has; empty where its writer did not give it any.
    """

    def __init__(
        self, path: Place, array: zarr.Array[Any], meta: TiltSeriesMeta, attribute: dict[str, Any]
    ) -> None:
        self.place, self.path = path, str(path)
        self.identity = str(attribute.get("id", ""))
        self.meta = meta
        self.shape: tuple[int, int, int] = (array.shape[0], array.shape[1], array.shape[2])
        self.dtype: np.dtype[Any] = np.dtype(array.dtype)
        chunk = array.shards or array.chunks
        self._chunk: tuple[int, int, int] = (int(chunk[0]), int(chunk[1]), int(chunk[2]))
        # A chunk that was lost must not pass for zeros, or for pixels to be masked.
        self._bulk = BulkArray(
            array,
            path / _name(attribute),
            axes=("tilts", "rows", "columns"),
            complete=True,
        )

    def __reduce__(self) -> tuple[Any, tuple[Place, str]]:
        # Workers reopen the store: handles do not cross process borders.
        return reopen_tilt_series, (self.place, self.identity)

    def read(
        self, rows: slice, columns: slice = slice(None), tilts: slice = slice(None)
    ) -> NDArray[np.float32]:
        """Projections ``(tilt, rows, columns)`` as a fresh, writable float32 array.

        Raises
        ------
        IndexError
            A slice reaches outside the projections.
        StorageError
            Chunks are damaged, unreadable or missing.
        """
        block = self._bulk.read((tilts, rows, columns))
        origin = (tilts.start or 0, rows.start or 0, columns.start or 0)
        return as_float32(block, "tilts", self.path, origin)

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
            Chunks are damaged, unreadable or missing.
        """
        tilts, height, _ = self.shape
        if len(first) != tilts:
            raise IndexError(f"{len(first)} ranges of columns for {tilts} tilts")
        if len(set(first)) == 1:
            return self.read(rows, slice(first[0], first[0] + width))
        start, stop, _ = rows.indices(height)
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

    @property
    def may_be_bad(self) -> bool:
        """Whether the dtype can hold NaN or infinite pixels at all."""
        return np.issubdtype(self.dtype, np.floating)

    def blocks(self) -> Iterator[tuple[slice, slice, slice]]:
        """Blocks ``(tilts, rows, columns)`` that cover the series: about 64 MiB of float32 each.

        They hold whole chunks as far as that goes, and whole pieces of the fingerprint.
        """
        steps = [self._chunk[0]]
        for chunk, piece in zip(self._chunk[1:], _PIECE, strict=True):
            steps.append(math.ceil(chunk / piece) * piece)
        for axis in (0, 2, 1):  # chunks hold all tilts, as a rule, and rows are contiguous in them
            others = math.prod(
                min(step, n)
                for k, (step, n) in enumerate(zip(steps, self.shape, strict=True))
                if k != axis
            )
            times = _BLOCK_BYTES // (4 * others * steps[axis])
            steps[axis] *= max(1, times)
        ranges = [range(0, n, step) for n, step in zip(self.shape, steps, strict=True)]
        for row, column, tilt in itertools.product(ranges[1], ranges[2], ranges[0]):
            start = (tilt, row, column)
            stop = [min(a + s, n) for a, s, n in zip(start, steps, self.shape, strict=True)]
            yield (
                slice(tilt, stop[0]),
                slice(row, stop[1]),
                slice(column, stop[2]),
            )

    def fingerprint(self) -> str:
        """SHA-256 of the pixels (as float32) and of all metadata but the description.

        Two stores with the same content have the same fingerprint, whatever their chunks and
        dtype: hashed are the SHA-256 digests of pieces of one tilt, 8 rows and 8192 columns, in
        the order (row, column, tilt), so that no block of a wide or long series has to be
        large.
        """
        return self.survey()[0]

    def count_bad(self, *, show: int = 3) -> BadPixels:
        """Scan for NaN and infinite pixels, block by block.

        Raises
        ------
        StorageError
            Chunks are damaged, unreadable or missing.
        """
        if not self.may_be_bad:
            return BadPixels(0)
        return find_bad(self._parts(), show=show)

    def survey(
        self,
        *,
        show: int = 3,
        watch: Callable[[Origin, NDArray[np.float32]], None] | None = None,
    ) -> tuple[str, BadPixels]:
        """`fingerprint` and `count_bad` in one pass over the pixels; raises as they do.

        ``watch`` is shown every block as well, with where it begins.
        """
        meta = self.meta
        head = [self.shape, meta.angles_deg, meta.shifts_px, meta.pixel_size_nm, meta.thickness_px]
        tilts, height, width = self.shape
        rows, columns = _PIECE
        digests = np.zeros((-(-height // rows), -(-width // columns), tilts, 32), dtype=np.uint8)

        def hashed() -> Iterator[tuple[Origin, NDArray[np.float32]]]:
            for (t, y, u), block in self._parts():
                for i, j, k in np.ndindex(
                    -(-block.shape[1] // rows), -(-block.shape[2] // columns), len(block)
                ):
                    piece = block[k, i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
                    digest = hashlib.sha256(piece.astype("<f4").tobytes()).digest()
                    digests[y // rows + i, u // columns + j, t + k] = list(digest)
                if watch is not None:
                    watch((t, y, u), block)
                yield (t, y, u), block

        bad = find_bad(hashed(), show=show)
        total = hashlib.sha256(json.dumps(head).encode())
        total.update(digests.tobytes())
        return total.hexdigest(), bad

    def _parts(self) -> Iterator[tuple[Origin, NDArray[np.float32]]]:
        """All pixels, block by block, with where each begins."""
        for block in self.blocks():
            origin = (block[0].start, block[1].start, block[2].start)
            values = self._bulk.read(block)
            yield origin, as_float32(values, "tilts", self.path, origin, copy=False)


def reopen_tilt_series(place: Place, identity: str | None) -> TiltSeries:
    """Open a store that this run has opened before, elsewhere.

    Parameters
    ----------
    place
        Of the store.
    identity
        Of the series that was opened (`TiltSeries.identity`); None: any will do.

    Raises
    ------
    InputReplacedError
        Another series has taken its place meanwhile.
    """
    series = open_series_at(place, checked=True)
    if identity is not None and series.identity != identity:
        raise InputReplacedError(
            f"{place} has been replaced by another tilt series since this run began; run the same "
            "command again"
        )
    return series


def open_tilt_series(path: str | Path) -> TiltSeries:
    """Open and validate a tilt-series store (the pixels are not read; see `TiltSeries.count_bad`).

    Parameters
    ----------
    path
        Of the store.

    Raises
    ------
    InputError
        The store is missing, is no Zarr group or no (complete) tilt series, is of an unknown
        version, has no 3-D array of numbers ``projections``, or its metadata fail `check_meta`;
        or a link in it leads out of it.
    """
    return open_series_at(locate(path, "tilts"))


def open_series_at(place: Place, *, checked: bool = False) -> TiltSeries:
    """Open a store as `open_tilt_series` does, by its place.

    ``checked``: this run has looked for links that lead out of it, and whether it is being replaced.
    """
    if not is_zarr(place):
        if not exists(place):
            raise InputError("tilts", str(place), "does not exist", "make it with ddgm-dist ingest")
        if is_claim(place):
            raise InputError(
                "tilts",
                str(place),
                "is not whole: it is still being written, or its writer was interrupted",
                "wait for it, or make it again",
            )
        raise InputError(
            "tilts", str(place), "is not a Zarr store", "convert it with ddgm-dist ingest"
        )
    if not checked:
        refuse_links(place, "tilts")
    try:
        group = zarr.open_group(zarr_store(place), mode="r")
    except StorageError:
        raise
    except Exception as error:  # zarr raises many types for damaged metadata
        raise InputError("tilts", str(place), f"is not a Zarr group ({error})") from error
    attribute = group.attrs.asdict().get(ATTRIBUTE)
    try:
        array = group[_name(attribute)]
    except (StorageError, InputError):
        raise
    except KeyError as error:
        raise InputError("tilts", str(place), f"has no array {ARRAY!r} in it") from error
    except Exception as error:  # see above
        why = f"its array {ARRAY!r} cannot be opened ({error})"
        raise InputError("tilts", str(place), why) from error
    if not isinstance(array, zarr.Array) or array.ndim != 3 or 0 in array.shape:
        found = f"shape {array.shape}" if isinstance(array, zarr.Array) else "a group"
        raise InputError(
            "tilts",
            str(place),
            f"its array {ARRAY!r} must be (tilt, y, u), not empty; it is {found}",
        )
    if np.dtype(array.dtype).kind not in "fiu":
        raise InputError(
            "tilts", str(place), f"its array {ARRAY!r} holds {array.dtype}, not numbers"
        )
    meta = parse_meta(attribute, str(place))
    check_meta(meta, array.shape[0], str(place))
    if not checked:
        warn_of_writer(place)
    assert isinstance(attribute, dict)  # it has been parsed
    return TiltSeries(place, array, meta, attribute)


def _name(attribute: Any) -> str:
    """Name of the array: within a folder, where a series in an object store has been replaced."""
    folder = attribute.get("folder") if isinstance(attribute, dict) else None
    return inner_name(f"{folder}/{ARRAY}" if folder else ARRAY, "tilts", "the tilt series")


def write_tilt_series(
    path: str | Path,
    projections: NDArray[Any],
    meta: TiltSeriesMeta,
    *,
    overwrite: bool = False,
) -> TiltSeries:
    """Write projections ``(tilt, y, u)`` that are in memory; the dtype is kept.

    Raises as `create_tilt_series` does.
    """
    shape = projections.shape
    if len(shape) != 3:
        raise InputError("projections", shape, "must be of shape (tilt, y, u)")
    place = locate(path, "out")
    with create_tilt_series(
        place, shape, meta, dtype=projections.dtype, overwrite=overwrite
    ) as writer:
        writer.write(slice(None), projections)
    return open_series_at(place)
