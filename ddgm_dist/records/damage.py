"""Errors of records that are damaged, or that belong to another run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from ddgm_dist.errors import DdgmError, StorageError

__all__ = ["OutputReplacedError", "RecordDamagedError", "log_damage"]

log = logging.getLogger("ddgm_dist")


class RecordDamagedError(StorageError):
    """A file of the record exists, and its content is not what was written."""


class OutputReplacedError(DdgmError):
    """The output belongs to another problem now, so work on the old one has to stop."""

    exit_status = 2


@contextlib.contextmanager
def log_damage() -> Iterator[None]:
    """Log a damaged record as a warning: the block reads one that the run can do without."""
    try:
        yield
    except RecordDamagedError as error:
        log.warning("%s; it is taken for absent", error)
