"""The protocol of an engine: it runs a job and reports events."""

from __future__ import annotations

import contextlib
from typing import Protocol

from ddgm_dist.engine.tally import Tally
from ddgm_dist.tile.events import Report
from ddgm_dist.tile.job import Job

__all__ = ["Engine"]


class Engine(Protocol):
    """Computes the tiles of a plan."""

    @property
    def name(self) -> str:
        """``local`` or ``ray``."""

    @property
    def workers(self) -> int:
        """Number of tiles that are computed at the same time."""

    def budget(self, asked: int | None) -> int | None:
        """Bytes that a worker may use: as many as asked for, or what is available.

        None when that is unknown.
        """

    def announce(self, tiles: int) -> str:
        """Say in one line for people where this number of tiles will be computed."""

    def connected(self) -> contextlib.AbstractContextManager[None]:
        """A connection to what the engine needs and does not start itself; fails if it is not there."""

    def metrics(self, job: Job, tally: Tally) -> contextlib.AbstractContextManager[Report]:
        """Report of the run's figures elsewhere, called for each event once the tally has it."""

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        """Compute and write every tile whose name is not in ``done``."""
