"""The tilt-series store: a Zarr group with the projections and what is known about each tilt.

Format version 1. Array ``projections`` of shape ``(tilt, y, u)``, floating point or integer, whose
values are line integrals; group attribute ``ddgm_dist`` =
``{"kind": "tilt-series", "version": 1, "angles_deg": [...], "shifts_px": [[dy, dx], ...] or null,
"pixel_size_nm": float or null, "thickness_px": int or null, "description": str}``. Only
``kind``, ``version`` and ``angles_deg`` are required, so a store can be made with zarr alone.

The attribute is written last: a store whose writer died half-way has none and is refused.
"""

from __future__ import annotations

import copyreg
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.array_io import InputReplacedError
from ddgm_dist.paths.claim import is_claim
from ddgm_dist.paths.files import exists, is_zarr
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.place import Place
from ddgm_dist.paths.safety import inner_name, refuse_links
from ddgm_dist.paths.zarr_store import zarr_store
from ddgm_dist.records.lease_holder import warn_of_writer
from ddgm_dist.tilts.bad_pixels import BadPixels
from ddgm_dist.tilts.metadata import (
    ARRAY,
    ATTRIBUTE,
    MAX_ANGLE_DEG,
    TiltSeriesMeta,
    check_meta,
    parse_meta,
)
from ddgm_dist.tilts.reader import TiltSeries
from ddgm_dist.tilts.record import Kept
from ddgm_dist.tilts.writer import TiltSeriesWriter, create_tilt_series

__all__ = [
    "MAX_ANGLE_DEG",
    "BadPixels",
    "TiltSeries",
    "TiltSeriesMeta",
    "TiltSeriesWriter",
    "check_meta",
    "create_tilt_series",
    "open_series_at",
    "open_tilt_series",
    "reopen_tilt_series",
    "write_tilt_series",
]


def reopen_tilt_series(place: Place, identity: str | None, kept: Kept | None = None) -> TiltSeries:
    """Open a store that this run has opened before, elsewhere.

    Parameters
    ----------
    place
        Place of the store.
    identity
        Identity of the series that was opened (`TiltSeries.identity`); None accepts any.
    kept
        Where the run keeps a record of its pixels, if their writer left none.

    Raises
    ------
    InputReplacedError
        Another series has taken its place meanwhile.
    """
    series = open_series_at(place, checked=True, kept=kept)
    if identity is not None and series.identity != identity:
        raise InputReplacedError(
            f"{place} has been replaced by another tilt series since this run began; run the same "
            "command again"
        )
    return series


def _reduce(series: TiltSeries) -> tuple[Any, tuple[Place, str, Kept | None]]:
    """Workers reopen the store: handles do not cross process borders."""
    return reopen_tilt_series, (series.place, series.identity, series.kept)


copyreg.pickle(TiltSeries, _reduce)


def open_tilt_series(path: str | Path) -> TiltSeries:
    """Open and validate a tilt-series store (the pixels are not read).

    Parameters
    ----------
    path
        Path or URL of the store.

    Raises
    ------
    InputError
        The store is missing, is no Zarr group or no complete tilt series, or is of an unknown
        version. It has no 3-D array of numbers ``projections``, its metadata fail `check_meta`, or a
        link in it leads out of it.
    """
    return open_series_at(locate(path, "tilts"))


def open_series_at(place: Place, *, checked: bool = False, kept: Kept | None = None) -> TiltSeries:
    """Open a store as `open_tilt_series` does, by its place.

    Parameters
    ----------
    place
        Place of the store.
    checked
        This run has checked its metadata, that no link leads out of it, and that it is not being
        replaced.
    kept
        Where a run keeps a record of its pixels, if their writer left none.
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
    if not checked:
        check_meta(meta, array.shape[0], str(place))
        warn_of_writer(place)
    assert isinstance(attribute, dict)  # it has been parsed
    inner = _folder(attribute)
    content = place / inner if inner else place
    identity, seal = (str(attribute.get(key, "")) for key in ("id", "record"))
    return TiltSeries(place, content, array, meta, identity, kept, seal)


def _name(attribute: Any) -> str:
    """Name of the array."""
    inner = _folder(attribute)
    return f"{inner}/{ARRAY}" if inner else ARRAY


def _folder(attribute: Any) -> str:
    """The folder that holds the array, if a series in an object store was replaced; else empty."""
    folder = attribute.get("folder") if isinstance(attribute, dict) else None
    return inner_name(str(folder), "tilts", "the tilt series") if folder else ""


def write_tilt_series(
    path: str | Path, projections: NDArray[Any], meta: TiltSeriesMeta, *, overwrite: bool = False
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
    return open_series_at(place, checked=True)
