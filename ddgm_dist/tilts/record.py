"""The record of a series' pixels, kept beside them so that a run need not read them all.

In the folder ``ddgm_dist/digests`` of the store: two arrays, ``pieces`` and ``chunks``
(`ddgm_dist.tilts.digests`), and ``survey.json``, which is written after them and before the store's
attribute. It holds the identity of the store, so that the record of another series is not believed.

Of a series whose writer left none a run keeps one in its output, in a folder of the same name. It has no
``chunks``, and its identity is what `identify` says.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.errors import InputError
from ddgm_dist.paths.array_io import BulkArray
from ddgm_dist.paths.claim import SIDECAR
from ddgm_dist.paths.files import read_bytes, write_bytes
from ddgm_dist.paths.place import Place
from ddgm_dist.paths.zarr_store import zarr_store
from ddgm_dist.pixels.observations import Observations
from ddgm_dist.tilts.bad_pixels import BadPixels
from ddgm_dist.tilts.digests import block_shape, hash_block
from ddgm_dist.tilts.metadata import TiltSeriesMeta, dump_meta, parse_meta
from ddgm_dist.tilts.recorded_estimate import Estimate

__all__ = [
    "FOLDER",
    "Kept",
    "Record",
    "folder_of",
    "identify",
    "load_record",
    "save_record",
]

_log = logging.getLogger("ddgm_dist")

FOLDER, _FILE, _VERSION = "digests", "survey.json", 1


@dataclass(frozen=True)
class Record:
    """Record of the pixels of one series.

    Attributes
    ----------
    identity
        Identity of the series.
    shape, dtype
        Shape and dtype of its array.
    meta
        Metadata as they were when the fingerprint and the estimates were made.
    fingerprint
        See :func:`ddgm_dist.tilts.digests.fingerprint_of`.
    bad
        NaN and infinite pixels.
    observations
        Pixels that may be no measurement.
    estimates
        Estimates by boundary of the specimen, for the thickness in ``meta``; empty where there is none.
    tables
        SHA-256 of each block of the tables of digests, by table, row after row of blocks.
    """

    identity: str
    shape: tuple[int, int, int]
    dtype: str
    meta: TiltSeriesMeta
    fingerprint: str
    bad: BadPixels
    observations: Observations
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    tables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def describes(self, meta: TiltSeriesMeta) -> bool:
        """Return whether a series with these metadata has the same fingerprint."""
        mine = self.meta
        return all(
            getattr(mine, key) == getattr(meta, key)
            for key in ("angles_deg", "shifts_px", "pixel_size_nm", "thickness_px", "sigma_y")
        )

    def estimate(self, geometry: Geometry) -> Estimate | None:
        """The estimate for a geometry, if it is recorded."""
        meta = self.meta
        same = (geometry.angles_deg, geometry.shifts_px, geometry.thickness) == (
            meta.angles_deg,
            meta.shifts_px or (),
            meta.thickness_px,
        )
        return self.estimates.get(geometry.boundary) if same else None

    def refuse_other(self, shape: tuple[int, int, int], dtype: np.dtype[Any], name: str) -> None:
        """Refuse an array that is not as it was written.

        Raises
        ------
        InputError
            Its shape or dtype is another one.
        """
        if (shape, str(dtype)) != (self.shape, self.dtype):
            raise InputError(
                "tilts",
                name,
                f"its array is {dtype} {shape}, but was written as {self.dtype} {self.shape}",
                "put a good copy in its place, or make it again",
            )


def folder_of(content: Place) -> Place:
    """The folder of the record, from the place that holds the array."""
    return content / SIDECAR / FOLDER


@dataclass(frozen=True)
class Kept:
    """Where a run keeps the record of a series that has none.

    Attributes
    ----------
    content
        Place whose folder it is in.
    identity
        Identity in the record.
    """

    content: Place
    identity: str


def identify(name: str, array: Place) -> str:
    """Identity of a series whose writer gave it none, as far as that is cheap.

    It is made of its path and the metadata of its array; on disk also of their inode and time, which
    differ from those of an array that takes its place. Pixels are compared when they are read.
    """
    found: list[Any] = [name]
    for file in ("zarr.json", ".zarray"):
        if (data := read_bytes(array / file)) is not None:
            found += [file, data.hex()]
            if isinstance(array, Path):
                stat = (array / file).stat()
                found += [stat.st_ino, stat.st_mtime_ns]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def save_record(
    content: Place, record: Record, pieces: NDArray[np.uint8], chunks: NDArray[np.uint8] | None
) -> str:
    """Write the tables, and then what makes them count.

    Parameters
    ----------
    content
        Place whose folder it goes to.
    record
        What is said of the series.
    pieces, chunks
        See :class:`ddgm_dist.tilts.digests.Digests`; None for no chunks.

    Returns
    -------
    str
        The seal: SHA-256 of what was written.

    Raises
    ------
    OSError, StorageError
        They cannot be written.
    """
    blocks = dict[str, list[str]]()
    tables = {"pieces": pieces.reshape(len(pieces), -1, 32)}
    if chunks is not None:
        tables["chunks"] = chunks
    for name, table in tables.items():
        place = folder_of(content) / name
        height, width = block_shape(table.shape)
        blocks[name] = [
            hash_block(table[i : i + height, j : j + width])
            for i in range(0, table.shape[0], height)
            for j in range(0, table.shape[1], width)
        ]
        array = zarr.create_array(
            zarr_store(place),
            shape=table.shape,
            chunks=(height, width, 32),
            dtype="uint8",
            overwrite=chunks is None,  # a run that was interrupted may have begun it
            compressors=ZstdCodec(level=1, checksum=True),
            zarr_format=3,
        )
        BulkArray(array, place, writable=True).write((slice(None),) * 3, table)
    values = {
        "version": _VERSION,
        "id": record.identity,
        "shape": record.shape,
        "dtype": record.dtype,
        "meta": dump_meta(replace(record.meta, provenance=None)),
        "fingerprint": record.fingerprint,
        "bad": asdict(record.bad),
        "observations": record.observations.to_dict(),
        "estimates": {name: found.to_dict() for name, found in record.estimates.items()},
        "tables": blocks,
    }
    seal = _seal(values)
    write_bytes(folder_of(content) / _FILE, json.dumps({"sha256": seal, **values}).encode())
    return seal


def _seal(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def load_record(content: Place, identity: str, seal: str | None = None) -> Record | None:
    """The record of a series; None where there is none, or none that can be believed.

    Parameters
    ----------
    content
        Place whose folder it is in.
    identity
        Identity of the series.
    seal
        What the series says of its record; None where nothing is known of it.
    """
    place = folder_of(content) / _FILE
    data = read_bytes(place) if identity else None
    if data is None:
        if seal:
            _log.warning("%s is missing, so the whole series is read, and taken as it is", place)
        return None
    try:
        values = json.loads(data)
        if seal is None and (values["version"] != _VERSION or values["id"] != identity):
            return None
        found = values.pop("sha256")
        if found != _seal(values) or seal not in (None, found) or values["id"] != identity:
            raise ValueError("its digest is another one")
        tilts, height, width = values["shape"]
        bad = values["bad"]
        return Record(
            identity=identity,
            shape=(tilts, height, width),
            dtype=str(values["dtype"]),
            meta=parse_meta(values["meta"], str(place)),
            fingerprint=str(values["fingerprint"]),
            bad=BadPixels(int(bad["count"]), tuple((t, y, u) for t, y, u in bad["first"])),
            observations=Observations.from_dict(values["observations"]),
            estimates={k: Estimate.from_dict(v) for k, v in values["estimates"].items()},
            tables={name: tuple(map(str, v)) for name, v in values["tables"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
        _log.warning("%s is damaged (%s), so the whole series is read", place, error)
        return None
