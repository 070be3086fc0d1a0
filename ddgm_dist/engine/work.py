"""The calls of a run and their order: the state of a run, without any engine.

A scheduler asks `Work.next` for a worker's next call and reports how the call ended. In `TileWork` tiles
are independent and each is one call; :mod:`.coupled` has the tiles that exchange halos.
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
    """One call that a worker makes for a tile.

    Attributes
    ----------
    kind
        ``run``: all iterations of an uncoupled tile. ``step``: one iteration of a coupled tile.
        ``finish``: its last blend and its write. ``combine``: mean and deviation of a tile's samples.
    tile, n
        The tile, and its iterations done before the call.
    load
        Generation to begin with, instead of states that workers hold.
    save
        Whether to write the new state as a part of a generation.
    keep
        Whether the worker keeps the tile's state for the next call.
    senders
        Names of the tiles whose pieces are handed over, in that order.
    receivers
        Tiles to make pieces for.
    epoch
        Epoch of the tile's group: calls from before a roll-back are stale.
    retried
        Whether another worker had this call before, and may have written the tile.
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
    """The calls of a run, as a scheduler sees them.

    Methods that return here have a default, for work whose workers hold no states between calls.
    """

    @property
    def finished(self) -> bool:
        """True once no call is left."""

    def set_workers(self, workers: Collection[str]) -> None:
        """Set the workers that take calls."""

    def next(self, worker: str, *, ahead: bool) -> Assignment | None:
        """The next call for a worker; ``ahead``: it is busy, and would only read its input."""

    def done(self, task: Task, digests: dict[str, str], pieces: Sequence[Any]) -> None:
        """Book a call that succeeded.

        Parameters
        ----------
        task
            The call.
        digests
            Digests of the checkpoint chunks that it wrote.
        pieces
            Handles of the pieces for ``task.receivers``.
        """

    def unit(self, tile: str) -> str:
        """Unit that is committed and rolled back together with a tile; empty if the tile is done."""

    def requeue(self, task: Task, *, last: bool = False) -> None:
        """Let a call be made again: by the worker that holds the tile, or by any.

        Parameters
        ----------
        task
            The call.
        last
            Put it behind all others if the order is free: it may be what ended its worker.
        """

    def is_stale(self, task: Task) -> bool:
        """Return whether the call's outcome is not needed any more."""

    def discard(self, worker: str, task: Task) -> None:
        """A stale call has ended: the state that its worker kept of it is of no use."""
        return

    def lost(self, workers: Collection[str]) -> None:
        """Workers were lost together with their states; calls come back through `requeue`."""
        return

    def roll_back(self, task: Task) -> None:
        """Take the unit of the call back to its last checkpoint."""

    def checkpoint(self) -> None:
        """Begin a checkpoint wherever none is under way."""
        return

    def commits(self) -> list[tuple[str, Generation]]:
        """Generations whose chunks are all on disk, to be committed now, in this order."""
        return []

    def committed(self, unit: str, generation: Generation) -> None:
        """A commit record is written."""
        return

    def spill_to_store(self) -> None:
        """Pass states and pieces through the store from now on."""
        return

    def drain(self, worker: str) -> bool:
        """Return whether a worker may leave without loss; if not, prepare for it to leave soon."""

    def drops(self) -> list[tuple[str, list[str]]]:
        """Workers, each with the tiles whose states it holds to no use."""
        return []

    def progress(self) -> tuple[int, int] | None:
        """Least and most iterations done in what is under way; None when unknown."""
        return None


class TileWork(Work):
    """Independent tiles, first come first served; workers checkpoint them by the clock.

    Parameters
    ----------
    tiles
        Tiles to compute.
    history
        Checkpoints that uncoupled tiles start from. None: the samples' tiles are to be combined,
        which has no checkpoints.
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
        """True once no call is left."""
        return not self._left

    def set_workers(self, workers: Collection[str]) -> None:
        """Set the workers that take calls."""
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
        """Book a tile that is written."""
        self._left.discard(task.tile.name)

    def unit(self, tile: str) -> str:
        """Each tile is a unit; empty if it is done."""
        return tile if tile in self._left else ""

    def requeue(self, task: Task, *, last: bool = False) -> None:
        """Let any worker make a call again: at once, or after all others."""
        if task.tile.name in self._left:
            self._retried.add(task.tile.name)
            if last:
                self._waiting.append(task.tile)
            else:
                self._waiting.appendleft(task.tile)

    def is_stale(self, task: Task) -> bool:
        """Return whether the call's outcome is not needed any more."""
        return task.tile.name not in self._left

    def roll_back(self, task: Task) -> None:
        """Go back to the last checkpoint, which the tile's next call does by itself."""
        self.requeue(task)

    def drain(self, worker: str) -> bool:
        """A worker gets no more calls, and may leave as soon as those it has have ended."""
        self._leaving.add(worker)
        return True
