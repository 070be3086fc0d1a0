"""One group of coupled tiles: how far each is, what it waits for, which checkpoint is being made.

At a checkpoint the state of every tile after the same iteration is written. It is the first iteration
that no tile has begun, so no tile waits for a checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ddgm_dist.engine.work import Assignment, Task
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.records.checkpoint import Generation
from ddgm_dist.tile.grid import TileGrid
from ddgm_dist.tile.history import unit_name

__all__ = ["Group"]


class Group:
    """A coupled group that is being computed.

    Parameters
    ----------
    tiles, grid
        Tiles of the group, and their neighbourhoods.
    iterations
        Iterations of the run, N.
    resident
        Whether states stay with workers; otherwise they pass through the store.

    Attributes
    ----------
    unit
        Name that the group's checkpoints are committed under.
    senders, receivers
        Names of the tiles around each tile: it takes pieces of the former, makes pieces for the latter.
    epoch
        Number of times that the group was rolled back; calls of an earlier epoch are stale.
    home
        Worker that a resident tile is assigned to, by tile.
    done
        Iterations done, by tile.
    busy
        Tiles whose call is in flight.
    begun
        Tiles that a worker was given since the group was set to a generation. It may hold their
        state; the other tiles can change workers at no cost.
    written
        Tiles whose result is written.
    load
        Generation that each tile's next call begins with.
    inbox
        Handles of pieces by receiver, iterations done and sender.
    digests, saved
        Digests of chunks, and tiles whose chunks are written; by iterations done.
    saving
        Iteration counts at which a checkpoint is being made.
    hold
        Iteration count that no tile passes: at this checkpoint tiles change workers.
    committed
        Iteration count of the newest committed checkpoint.
    """

    def __init__(
        self, tiles: Sequence[Tile], grid: TileGrid, iterations: int, *, resident: bool
    ) -> None:
        self.grid, self.iterations, self.resident = grid, iterations, resident
        self.unit = unit_name(tiles)
        self.tiles = {tile.name: tile for tile in tiles}
        self.senders = {t.name: tuple(s.name for s in grid.senders(t) if s != t) for t in tiles}
        self.receivers = {t.name: tuple(r.name for r in grid.receivers(t) if r != t) for t in tiles}
        self.epoch = 0
        self.home: dict[str, str] = {}
        self.written: set[str] = set()
        self.start(None)

    def start(self, generation: Generation | None) -> None:
        """Set all tiles to a generation; None: to the beginning."""
        n = generation.iteration if generation else 0
        self.done = dict.fromkeys(self.tiles, n)
        self.busy: set[str] = set()
        self.begun: set[str] = set()
        self.load: dict[str, Generation | None] = dict.fromkeys(self.tiles, generation)
        self.inbox: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in self.tiles}
        self.digests = {n: dict(generation.digests)} if generation else {}
        self.saved: dict[int, set[str]] = {}
        self.saving: set[int] = set()
        self.hold: int | None = None
        self.committed = n

    def can_begin(self, name: str) -> bool:
        """Return whether the tile's next call can be made: the tiles around it have come as far."""
        n = self.done[name]
        if name in self.busy or (n >= self.iterations and name in self.written):
            return False
        if self.hold is not None and n >= self.hold:
            return False
        done = self.done
        return all(done[other] >= n for other in self.senders[name])

    def begin(self, name: str) -> Assignment:
        """The tile's next call, which is in flight from now on."""
        tile, n = self.tiles[name], self.done[name]
        self.busy.add(name)
        self.begun.add(name)
        last = n >= self.iterations
        load = self.load[name]
        if n > 0 and not self.resident and load is None:
            load = Generation(n, self.digests[n])
        if load is not None:
            load = Generation(n, self._read_by(tile, load))
        pieces = self.inbox[name].get(n, {}) if load is None and n > 0 else {}
        senders = tuple(sorted(pieces))
        receivers = self.receivers[name] if self.resident and not last else ()
        task = Task(
            kind="finish" if last else "step",
            tile=tile,
            n=n,
            load=load,
            save=not last and (not self.resident or n + 1 in self.saving),
            keep=self.resident,
            senders=senders,
            receivers=tuple(self.tiles[r] for r in receivers),
            epoch=self.epoch,
        )
        return task, tuple(pieces[s] for s in senders)

    def _read_by(self, tile: Tile, generation: Generation) -> dict[str, str]:
        """Digests of the chunks that a tile reads: a call need not carry all."""
        read = tile.read_box.y
        keys = [
            key
            for name in (*self.senders[tile.name], tile.name)
            for key in self.grid.chunks(self.tiles[name], read)
        ]
        return {key: generation.digests[key] for key in keys}

    def end(self, task: Task, digests: dict[str, str], pieces: Sequence[Any]) -> Generation | None:
        """Book a call that succeeded; returns a checkpoint whose chunks are now all on disk."""
        name = task.tile.name
        self.busy.discard(name)
        self.inbox[name].pop(task.n, None)
        if task.kind == "finish":
            self.written.add(name)
            return None
        self.load[name] = None
        n = self.done[name] = task.n + 1
        for receiver, piece in zip(task.receivers, pieces, strict=True):
            self.inbox[receiver.name].setdefault(n, {})[name] = piece
        if not digests:
            return None
        self.digests.setdefault(n, {}).update(digests)
        self.saved.setdefault(n, set()).add(name)
        if len(self.saved[n]) < len(self.tiles):
            return None
        for old in [k for k in self.digests if k < n - 1]:
            del self.digests[old]
            self.saved.pop(old, None)
        return Generation(n, self.digests[n]) if n > self.committed else None

    def begin_checkpoint(self) -> int | None:
        """Checkpoint the first iteration that no tile has begun; None when that is the last."""
        n = 1 + max(n + (name in self.busy) for name, n in self.done.items())
        if n >= self.iterations:
            return None
        self.saving.add(n)
        return n

    def stop_at_checkpoint(self) -> None:
        """Stop at the next checkpoint, so that tiles can change workers there."""
        if self.hold is None:
            self.hold = self.begin_checkpoint()
