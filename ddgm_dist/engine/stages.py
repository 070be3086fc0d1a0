"""Work in two stages: all samples, then mean and deviation of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from ddgm_dist.engine.work import Assignment, Task, TileWork, Work
from ddgm_dist.records.checkpoint import Generation

__all__ = ["Stages"]


class Stages:
    """Solves everything, and combines when nothing is left to solve.

    Parameters
    ----------
    solving
        Tiles of all samples.
    combining
        Of mean and deviation: calls of the kind ``combine``.
    """

    def __init__(self, solving: Work, combining: TileWork) -> None:
        self.solving, self.combining = solving, combining

    def _of(self, task: Task) -> Work:
        return self.combining if task.kind == "combine" else self.solving

    @property
    def finished(self) -> bool:
        """Whether nothing is left."""
        return self.solving.finished and self.combining.finished

    def assign(self, workers: Collection[str]) -> None:
        """Tell which workers take calls."""
        self.solving.assign(workers)
        self.combining.assign(workers)

    def next(self, worker: str, *, ahead: bool) -> Assignment | None:
        """The next call for a worker, of the stage that the run is in."""
        stage = self.combining if self.solving.finished else self.solving
        return stage.next(worker, ahead=ahead)

    def done(self, task: Task, digests: dict[str, str], pieces: Sequence[Any]) -> None:
        """A call has ended well."""
        self._of(task).done(task, digests, pieces)

    def unit(self, tile: str) -> str:
        """What is committed and goes back together with a tile; empty if the tile is done."""
        return self.solving.unit(tile) or self.combining.unit(tile)

    def again(self, task: Task, *, last: bool = False) -> None:
        """A call is to be made again; ``last``: when all else of its stage is done."""
        self._of(task).again(task, last=last)

    def void(self, task: Task) -> bool:
        """Whether the call's outcome is of no interest any more."""
        return self._of(task).void(task)

    def late(self, worker: str, task: Task) -> None:
        """A call that is void has ended."""
        self._of(task).late(worker, task)

    def lost(self, workers: Collection[str]) -> None:
        """Workers are gone."""
        self.solving.lost(workers)
        self.combining.lost(workers)

    def roll_back(self, task: Task) -> None:
        """What the call belongs to goes back to its last checkpoint."""
        self._of(task).roll_back(task)

    def checkpoint(self) -> None:
        """Begin a checkpoint wherever none is under way."""
        self.solving.checkpoint()

    def commits(self) -> list[tuple[str, Generation]]:
        """Generations to be committed now."""
        return self.solving.commits()

    def committed(self, unit: str, generation: Generation) -> None:
        """A commit record is written."""
        self.solving.committed(unit, generation)

    def stream(self) -> None:
        """Pass states and pieces through the store from now on."""
        self.solving.stream()

    def evacuate(self, worker: str) -> bool:
        """Whether a worker may leave without loss."""
        self.combining.evacuate(worker)  # it gets no calls of that stage either
        return self.solving.evacuate(worker)

    def drops(self) -> list[tuple[str, list[str]]]:
        """Workers, and the tiles whose states they hold in vain."""
        return self.solving.drops()

    def progress(self) -> tuple[int, int] | None:
        """Least and most iterations done in what is under way; None when unknown."""
        return self.solving.progress()
