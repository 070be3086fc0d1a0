"""Changing the geometry that a finished series states; its pixels stay."""

from __future__ import annotations

from typing import Any

import zarr

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.free_space import write_error
from ddgm_dist.paths.zarr_store import zarr_store
from ddgm_dist.records.lease import Lease
from ddgm_dist.tilts.metadata import ATTRIBUTE, TiltSeriesMeta, check_meta, dump_meta
from ddgm_dist.tilts.reader import TiltSeries

__all__ = ["amend_series"]

_GEOMETRY = ("angles_deg", "shifts_px", "provenance")


def amend_series(series: TiltSeries, meta: TiltSeriesMeta) -> None:
    """Write other angles and shifts into the attribute of a series.

    Everything else in the attribute stays, also what another program put there. The series gets another
    fingerprint, so outputs that were made of it before count as those of another problem.

    Parameters
    ----------
    series
        Open series.
    meta
        Metadata, of which angles, shifts and provenance count.

    Raises
    ------
    InputError
        The metadata cannot be those of the series, it was replaced meanwhile, or another process writes
        to it.
    StorageError
        The attribute cannot be written; then it is as it was.
    """
    check_meta(meta, series.shape[0], series.path)
    lease = Lease(series.place)
    lease.acquire()
    try:
        group = zarr.open_group(zarr_store(series.place), mode="r+")
        attribute: Any = group.attrs.asdict().get(ATTRIBUTE)
        if not isinstance(attribute, dict):
            raise InputError("tilts", series.path, f"has lost its attribute {ATTRIBUTE!r}")
        if str(attribute.get("id", "")) != series.identity:
            raise InputError(
                "tilts", series.path, "has been replaced by another series", "run it again"
            )
        values = dump_meta(meta)
        changed = {key: values[key] for key in _GEOMETRY if key in values}
        lease.check()
        group.attrs[ATTRIBUTE] = {**attribute, **changed}
    except (InputError, StorageError):
        raise
    except OSError as error:
        raise write_error(series.place, 4096, error) from error
    finally:
        lease.release()
