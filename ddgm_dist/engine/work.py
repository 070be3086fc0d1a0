"""What there is to do, and in which order: the state of a run, without any engine.

A scheduler asks `next` for a worker's next call and tells what became of it. In `TileWork` tiles never
talk, each is one call; :mod:`.coupled` has the other kind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ddgm_dist.planning.tiling import Tile
from ddgm_dist.records.checkpoint import Generation
from ddgm_dist.tile.history import History

__all__ = ["Assignment", "Task", "TileWork", "Work"]


@dataclass(frozen=True)
class Task:
    """One call.

    Attributes
    ----------
    kind
        ``run``: a whole uncoupled tile. ``step``: an iteration of a coupled one. ``finish``: its
        last blend and its write. ``combine``: mean and deviation of a tile's samples.
    tile, n
        Which; iterations done before.
    load
        Generation to begin with instead of what the worker and others hold.
    save
        Make the new state part of a generation.
    keep
        The worker keeps the tile's state.
    senders
        Names of the tiles whose pieces are handed over, in that order.
    receivers
        Tiles to make pieces for.
    epoch
        Of the tile's group; calls from before a roll-back are void.
    retried
        Asked before of somebody who was lost, and who may have done it.
    """

    kind: Literal["run", "step", "finish", "combine"]
    tile: Tile
    n: int = 0
    load: Generation | None = None
    save: bool = False
    keep: bool = True
    senders: tuple[str, ...] = ()
    receivers: tuple[Tile, ...] = ()
    epoch: int = 0
    retried: bool = False


# A task and the handles of the pieces it takes.
Assignment = tuple[Task, tuple[Any, ...]]


class Work(Protocol):
    """What a scheduler needs to know of a run."""

    @property
    def finished(self) -> bool:
        """Whether nothing is left."""

    def assign(self, workers: Collection[str]) -> None:
        """Tell which workers take calls."""

    def next(self, worker: str, *, ahead: bool) -> Assignment | None:
        """The next call for a worker; ``ahead``: it is busy, and would only read its input."""

    def done(self, task: Task, digests: dict[str, str], pieces: Sequence[Any]) -> None:
        """A call has ended well.

        Parameters
        ----------
        task
            Which.
        digests
            Of the checkpoint's chunks.
        pieces
            Handles of the pieces for ``task.receivers``.
        """

    def unit(self, tile: str) -> str:
        """What is committed and goes back together with a tile; empty if the tile is done."""

    def again(self, task: Task, *, last: bool = False) -> None:
        """A call is to be made again: by the worker that holds the tile, or by any.

        Parameters
        ----------
        task
            Which.
        last
            When all else is done, if the order is free: it may be what ended its worker.
        """

    def void(self, task: Task) -> bool:
        """Whether the call's outcome is of no interest any more."""

    def late(self, worker: str, task: Task) -> None:
        """A call that is void has ended: what the worker has kept of it is held in vain."""

    def lost(self, workers: Collection[str]) -> None:
        """Workers are gone, at once, with what they held; calls come back through :meth:`again`."""

    def roll_back(self, task: Task) -> None:
        """What the call belongs to goes back to its last checkpoint."""

    def checkpoint(self) -> None:
        """Begin a checkpoint wherever none is under way."""

    def commits(self) -> list[tuple[str, Generation]]:
        """Generations whose chunks are all on disk, to be committed now, in this order."""

    def committed(self, unit: str, generation: Generation) -> None:
        """A commit record is written."""

    def stream(self) -> None:
        """Pass states and pieces through the store from now on."""

    def evacuate(self, worker: str) -> bool:
        """Whether a worker may leave without loss; if not, see to it that it soon may."""

    def drops(self) -> list[tuple[str, list[str]]]:
        """Workers, and the tiles whose states they hold in vain."""

    def progress(self) -> tuple[int, int] | None:
        """Least and most iterations done in what is under way; None when unknown."""


class TileWork:
    """Tiles that never talk, first come first served.

    Parameters
    ----------
    tiles
        To do.
    history
        Where uncoupled tiles go on; None: they are to be combined, which has no checkpoints.
    """

    def __init__(self, tiles: Sequence[Tile], history: History | None) -> None:
        self._waiting = deque(tiles)
        self._history = history
        self._left = {tile.name for tile in tiles}
        self._workers = 1
        self._leaving: set[str] = set()
        self._retried: set[str] = set()

    @property
    def finished(self) -> bool:
        """Whether nothing is left."""
        return not self._left

    def assign(self, workers: Collection[str]) -> None:
        """Tell which workers take calls."""
        self._workers = max(1, len(workers))

    def next(self, worker: str, *, ahead: bool) -> Assignment | None:
        """The next call for a worker; ``ahead``: it is busy, and would only read its input.

        Near the end none is taken ahead: another worker may be free sooner.
        """
        if not self._waiting or worker in self._leaving:
            return None
        if ahead and len(self._waiting) <= self._workers:
            return None
        tile = self._waiting.popleft()
        retried = tile.name in self._retried
        if self._history is None:
            return Task("combine", tile, keep=False, retried=retried), ()
        return Task("run", tile, load=self._history.newest([tile]), retried=retried), ()

    def done(self, task: Task, digests: dict[str, str], pieces: Sequence[Any]) -> None:
        """A tile is written."""
        self._left.discard(task.tile.name)

    def unit(self, tile: str) -> str:
        """Each tile is one; empty if it is done."""
        return tile if tile in self._left else ""

    def again(self, task: Task, *, last: bool = False) -> None:
        """A call is to be made again, by any worker: at once, or when all others have been."""
        if task.tile.name in self._left:
            self._retried.add(task.tile.name)
            if last:
                self._waiting.append(task.tile)
            else:
                self._waiting.appendleft(task.tile)

    def lost(self, workers: Collection[str]) -> None:
        """Workers are gone; their calls come back through :meth:`again`."""

    def void(self, task: Task) -> bool:
        """Whether the call's outcome is of no interest any more."""
        return task.tile.name not in self._left

    def late(self, worker: str, task: Task) -> None:
        """Workers keep nothing of a tile that has ended."""

    def roll_back(self, task: Task) -> None:
        """Go back to the last checkpoint, which the tile's next call does by itself."""
        self.again(task)

    def checkpoint(self) -> None:
        """Workers checkpoint uncoupled tiles by the clock."""

    def commits(self) -> list[tuple[str, Generation]]:
        """Generations to commit: none, workers do it."""
        return []

    def committed(self, unit: str, generation: Generation) -> None:
        """A commit record is written."""

    def stream(self) -> None:
        """There are no pieces."""

    def evacuate(self, worker: str) -> bool:
        """A worker gets no more calls, and may leave as soon as those it has have ended."""
        self._leaving.add(worker)
        return True

    def drops(self) -> list[tuple[str, list[str]]]:
        """States that workers hold in vain: none."""
        return []

    def progress(self) -> tuple[int, int] | None:
        """Least and most iterations in open groups; unknown here."""
        return None
