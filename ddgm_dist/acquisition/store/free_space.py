"""Room on the disk for a store, and for what is kept beside it while it is written."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from ddgm_dist.errors import StorageError

__all__ = ["refuse_full"]

_log = logging.getLogger("ddgm_dist")


def refuse_full(place: Path, size: int, *, twice: bool) -> None:
    """Refuse a disk that cannot hold the views that are kept; warn of one that may be too small.

    Parameters
    ----------
    place
        Place of the store, which need not exist.
    size
        Bytes of its pixels before compression.
    twice
        Whether the views are kept beside the store until they are transposed.

    Raises
    ------
    StorageError
        They do not fit.
    """
    there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if twice and size > free:
        raise StorageError(
            f"{place} needs {size} bytes beside it for the views, until they are transposed, "
            f"and {free} are free there; free space, or choose another disk"
        )
    most = size * (2 if twice else 1)
    if most > free:
        _log.warning(
            "%s: %d bytes before compression may not fit, as %d are free there", place, most, free
        )
