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
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ddgm_dist.errors import InputError
from ddgm_dist.storage.array_io import (
    BulkArray,
    as_float32,
    is_zarr,
    local_path,
)
from ddgm_dist.storage.tilt_meta import (
    ARRAY,
    ATTRIBUTE,
    MAX_ANGLE_DEG,
    TiltSeriesMeta,
    check_meta,
    parse_meta,
)
from ddgm_dist.storage.tilt_writer import TiltSeriesWriter, create_tilt_series

__all__ = [
    "MAX_ANGLE_DEG",
    "BadPixels",
    "TiltSeries",
    "TiltSeriesMeta",
    "TiltSeriesWriter",
    "check_meta",
    "create_tilt_series",
    "find_bad",
    "open_tilt_series",
    "write_tilt_series",
]

_BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class BadPixels:
    """NaN and infinite pixels of a tilt series.

    Attributes
    ----------
    count
        How many there are.
    first
        Coordinates ``(tilt, y, u)`` of the first few, in the order of the rows.
    """

    count: int
    first: tuple[tuple[int, int, int], ...] = ()

    def describe(self) -> str:
        """The count and the first coordinates, as a clause."""
        if not self.count:
            return "no NaN or infinite pixels"
        where = ", ".join(str(c) for c in self.first)
        more = ", ..." if self.count > len(self.first) else ""
        return f"{self.count} NaN or infinite pixels, first at (tilt, y, u) = {where}{more}"


class TiltSeries:
    """An open, validated tilt-series store; made by `open_tilt_series`.

    Attributes
    ----------
    path
        Absolute path of the store.
    meta
        Its metadata.
    shape
        ``(tilt, y, u)``.
    dtype
        Stored dtype.
    """

    def __init__(self, path: Path, array: zarr.Array[Any], meta: TiltSeriesMeta) -> None:
        self.path = str(path)
        self.meta = meta
        self.shape: tuple[int, int, int] = (array.shape[0], array.shape[1], array.shape[2])
        self.dtype: np.dtype[Any] = np.dtype(array.dtype)
        self._rows_per_chunk = int((array.shards or array.chunks)[1])
        self._bulk = BulkArray(array, path / ARRAY)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        # Workers reopen the store: handles do not cross process borders.
        return open_tilt_series, (self.path,)

    def read(self, rows: slice, columns: slice = slice(None)) -> NDArray[np.float32]:
        """Projections ``(tilt, rows, columns)`` as a fresh, writable float32 array.

        Raises
        ------
        IndexError
            A slice reaches outside the projections.
        StorageError
            Chunks are damaged or unreadable.
        """
        return as_float32(self._bulk.read((slice(None), rows, columns)))

    def blocks(self) -> Iterator[slice]:
        """Row ranges that cover the series: whole chunks, about 64 MiB of float32 at a time."""
        tilts, height, width = self.shape
        chunk = self._rows_per_chunk
        step = max(1, _BLOCK_BYTES // (4 * tilts * width * chunk)) * chunk
        for start in range(0, height, step):
            yield slice(start, min(start + step, height))

    def fingerprint(self) -> str:
        """SHA-256 of the pixels (as float32) and of all metadata but the description.

        Two stores with the same content have the same fingerprint, whatever their chunks and
        dtype: pixels are hashed row by row, each row as ``(tilt, u)``.
        """
        meta = self.meta
        head = [self.shape, meta.angles_deg, meta.shifts_px, meta.pixel_size_nm, meta.thickness_px]
        digest = hashlib.sha256(json.dumps(head).encode())
        for rows in self.blocks():
            block = self.read(rows).transpose(1, 0, 2)
            digest.update(np.ascontiguousarray(block, dtype="<f4").tobytes())
        return digest.hexdigest()

    def count_bad(self, *, show: int = 3) -> BadPixels:
        """Scan for NaN and infinite pixels, block by block.

        A chunk lost from a store made here is found too: its fill value is NaN.
        """
        if not np.issubdtype(self.dtype, np.floating):
            return BadPixels(0)
        return find_bad(self.read, self.blocks(), show=show)


def find_bad(
    read: Callable[[slice], NDArray[np.float32]], blocks: Iterable[slice], *, show: int = 3
) -> BadPixels:
    """Count the NaN and infinite pixels of what ``read`` gives, ``(tilt, rows, u)``, per block."""
    count, first = 0, list[tuple[int, int, int]]()
    for rows in blocks:
        bad = ~np.isfinite(read(rows)).transpose(1, 0, 2)
        count += int(np.count_nonzero(bad))
        if len(first) < show and bad.any():
            for y, t, u in np.argwhere(bad)[: show - len(first)]:
                first.append((int(t), int(y) + rows.start, int(u)))
    return BadPixels(count, tuple(first))


def open_tilt_series(path: str | Path) -> TiltSeries:
    """Open and validate a tilt-series store (the pixels are not read; see `TiltSeries.count_bad`).

    Raises
    ------
    InputError
        The store is missing, is no Zarr group or no (complete) tilt series, is of an unknown
        version, has no 3-D array of numbers ``projections``, or its metadata fail `check_meta`.
    """
    folder = local_path(path, "tilts")
    if not folder.exists():
        raise InputError("tilts", str(path), "does not exist", "make it with ddgm-dist ingest")
    if not is_zarr(folder):
        raise InputError(
            "tilts", str(path), "is not a Zarr store", "convert it with ddgm-dist ingest"
        )
    try:
        group = zarr.open_group(str(folder), mode="r")
    except Exception as error:  # zarr raises many types for damaged metadata
        raise InputError("tilts", str(path), f"is not a Zarr group ({error})") from error
    try:
        array = group[ARRAY]
    except Exception as error:  # see above
        raise InputError("tilts", str(path), f"has no array {ARRAY!r} in it") from error
    if not isinstance(array, zarr.Array) or array.ndim != 3 or 0 in array.shape:
        found = f"shape {array.shape}" if isinstance(array, zarr.Array) else "a group"
        raise InputError(
            "tilts",
            str(path),
            f"its array {ARRAY!r} must be (tilt, y, u), not empty; it is {found}",
        )
    if np.dtype(array.dtype).kind not in "fiu":
        raise InputError(
            "tilts", str(path), f"its array {ARRAY!r} holds {array.dtype}, not numbers"
        )
    meta = parse_meta(group.attrs.asdict().get(ATTRIBUTE), str(path))
    check_meta(meta, array.shape[0], str(path))
    return TiltSeries(folder, array, meta)


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
    writer = create_tilt_series(path, shape, meta, dtype=projections.dtype, overwrite=overwrite)
    writer.write(slice(None), projections)
    writer.close()
    return open_tilt_series(path)
