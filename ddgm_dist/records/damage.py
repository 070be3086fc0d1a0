"""Errors of records that are damaged, or that belong to another run by now."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from ddgm_dist.errors import DdgmError, StorageError

__all__ = [
    "OutputReplacedError",
    "RecordDamagedError",
    "log_damage",
]

log = logging.getLogger("ddgm_dist")


class RecordDamagedError(StorageError):
    """A file of the record is there, and is not what was written."""


class OutputReplacedError(DdgmError):
    """The output belongs to another problem now: who still works at the old one is to stop."""

    exit_status = 2


@contextlib.contextmanager
def log_damage() -> Iterator[None]:
    """What can be done without when it is damaged is only warned of."""
    try:
        yield
    except RecordDamagedError as error:
        log.warning("%s; it is taken for absent", error)
