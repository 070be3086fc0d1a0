"""Coupled tiles: iterations as a graph of calls, without a barrier.

Each iteration of a tile is one call, which may begin as soon as the tiles around it have done the
iteration before. *Resident* states stay with the worker that a tile is assigned to, and pieces are
handed from call to call. *Streamed* states go through the store, and any worker takes any tile.

At a checkpoint every tile's state after the same iteration is written; the first iteration that no tile
has begun is chosen. When a worker is lost, the group goes back to its last checkpoint. When workers
join, or are about to leave, the group stops at its next checkpoint and goes on from there with its tiles
dealt out anew: nothing is computed twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from ddgm_dist.engine.work import Assignment, Task
from ddgm_dist.planning.plan import Plan
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.records.checkpoint import Generation
from ddgm_dist.tile.grid import TileGrid
from ddgm_dist.tile.history import History, unit_name

__all__ = ["GroupWork"]


@dataclass
class _Group:
    """A group that is being computed.

    Attributes
    ----------
    done
        Iterations by tile.
    busy
        Tiles whose call is in flight.
    begun
        Tiles that a worker was given since the group was set to a generation, which may hold their
        state; the others can change workers at no cost.
    load
        Generation that each tile's next call begins with.
    mail
        Handles of pieces: receiver, iterations done, sender.
    digests
        Of chunks, by iterations done.
    saving
        Iteration counts at which a checkpoint is being made.
    hold
        Iteration count beyond which no tile goes: at this checkpoint tiles change workers.
    """

    unit: str
    tiles: dict[str, Tile]
    senders: dict[str, tuple[str, ...]]
    receivers: dict[str, tuple[str, ...]]
    resident: bool
    epoch: int = 0
    home: dict[str, str] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    busy: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    load: dict[str, Generation | None] = field(default_factory=dict)
    mail: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    digests: dict[int, dict[str, str]] = field(default_factory=dict)
    parts: dict[int, set[str]] = field(default_factory=dict)
    saving: set[int] = field(default_factory=set)
    hold: int | None = None
    committed: int = 0


class GroupWork:
    """Coupled groups: as many at a time as keep the workers busy.

    Parameters
    ----------
    plan, grid
        Tiles and their neighbourhoods.
    history
        Where groups go on.
    groups
        To do.
    resident
        Whether states stay with workers.
    """

    def __init__(
        self,
        plan: Plan,
        grid: TileGrid,
        history: History,
        groups: Sequence[Sequence[Tile]],
        *,
        resident: bool,
    ) -> None:
        self.plan, self.grid, self.history = plan, grid, history
        self.resident = resident
        self._waiting = deque(groups)
        self._open: dict[str, _Group] = {}
        self._of: dict[str, _Group] = {}
        self._ready: dict[str, deque[tuple[str, int]]] = {}
        self._workers: list[str] = []
        self._leaving: set[str] = set()
        self._drops: dict[str, list[str]] = {}
        self._commits: list[tuple[str, Generation]] = []

    # -- what a scheduler asks -------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether nothing is left."""
        return not self._waiting and not self._open

    def assign(self, workers: Collection[str]) -> None:
        """Tell which workers take calls; tiles move to those that have joined."""
        self._workers = sorted(workers)
        self._leaving &= set(workers)
        staying = self._staying()
        if not staying:
            return
        self._open_groups()
        for group in self._open.values():
            if group.resident and not set(group.home.values()) <= set(workers):
                self._settle(group)
                self._wake(group)
        self._spread()

    def next(self, worker: str, *, ahead: bool) -> Assignment | None:
        """The next call for a worker, of those that can begin."""
        shared = None if worker in self._leaving else self._ready.get("")
        for queue in (self._ready.get(worker), shared):
            while queue:
                name, epoch = queue.popleft()
                group = self._of.get(name)
                if not group or group.epoch != epoch or not self._can_begin(group, name):
                    continue
                if not group.resident or group.home[name] == worker:
                    return self._task(group, name)
        return None

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
        group, name = self._of[task.tile.name], task.tile.name
        group.busy.discard(name)
        group.mail[name].pop(task.n, None)
        if task.kind == "finish":
            group.written.add(name)
            if len(group.written) == len(group.tiles):
                self._close(group)
            return
        group.load[name] = None
        after = group.done[name] = task.n + 1
        for receiver, piece in zip(task.receivers, pieces, strict=True):
            group.mail[receiver.name].setdefault(after, {})[name] = piece
        if digests:
            group.digests.setdefault(after, {}).update(digests)
            group.parts.setdefault(after, set()).add(name)
            if len(group.parts[after]) == len(group.tiles):
                self._whole(group, after)
        for other in (*group.receivers[name], name):
            self._push(group, other)

    def unit(self, tile: str) -> str:
        """The name of an open tile's group; empty if that is done."""
        group = self._of.get(tile)
        return group.unit if group else ""

    def again(self, task: Task, *, last: bool = False) -> None:
        """A call is to be made again: by the worker that holds the tile, or by any.

        The tiles around it wait for it, so ``last`` changes nothing.
        """
        group = self._of.get(task.tile.name)
        if group and group.epoch == task.epoch:
            group.busy.discard(task.tile.name)
            self._push(group, task.tile.name)

    def void(self, task: Task) -> bool:
        """Whether the call's outcome is of no interest any more."""
        group = self._of.get(task.tile.name)
        return group is None or group.epoch != task.epoch

    def late(self, worker: str, task: Task) -> None:
        """A call that is void has ended: what the worker has kept of it is held in vain.

        Not where the tile is at home still: its next step there takes the old state's place.
        """
        name = task.tile.name
        group = self._of.get(name)
        at_home = group is not None and group.resident and group.home.get(name) == worker
        if task.keep and not at_home:
            self._drops.setdefault(worker, []).append(name)

    def lost(self, workers: Collection[str]) -> None:
        """Workers are gone, at once, with what they held: their groups go back to checkpoints."""
        self._workers = [w for w in self._workers if w not in workers]
        self._leaving.difference_update(workers)
        for worker in workers:
            self._drops.pop(worker, None)
        for group in list(self._open.values()):
            if group.resident and not set(workers).isdisjoint(group.home.values()):
                self._roll_back(group)

    def roll_back(self, task: Task) -> None:
        """The group goes back to its last checkpoint, unless it has since the call was made."""
        if not self.void(task):
            self._roll_back(self._of[task.tile.name])

    def checkpoint(self) -> None:
        """Begin a checkpoint of every group that has none under way."""
        for group in self._open.values():
            if group.resident and not group.saving:
                self._begin_saving(group)

    def commits(self) -> list[tuple[str, Generation]]:
        """Generations whose chunks are all on disk, to be committed now, in this order."""
        found, self._commits = self._commits, []
        return found

    def committed(self, unit: str, generation: Generation) -> None:
        """A commit record is written."""
        group = self._open.get(unit)
        if group is None:
            return
        group.committed = generation.iteration
        group.saving = {n for n in group.saving if n > generation.iteration}
        if group.hold == generation.iteration:
            self._roll_back(group)  # to where all its tiles are: they only change workers

    def stream(self) -> None:
        """Pass states and pieces through the store from now on."""
        self.resident = False
        for group in self._open.values():
            if group.resident:
                for name, home in group.home.items():
                    self._drops.setdefault(home, []).append(name)
            group.resident = False
            self._roll_back(group)

    def evacuate(self, worker: str) -> bool:
        """Whether a worker may leave without loss; if not, see to it that it soon may.

        Its groups are checkpointed at the next iteration, do not go on beyond it, and then move to
        the other workers. Near the end they rather finish.
        """
        if worker not in self._leaving:
            self._leaving.add(worker)
            if self._staying():
                self._spread()
        stays = [g for g in self._open.values() if g.resident and worker in g.home.values()]
        for group in stays:
            if self._staying():
                self._hold(group)
        return not stays

    def drops(self) -> list[tuple[str, list[str]]]:
        """Workers, and the tiles whose states they hold in vain."""
        found, self._drops = self._drops, {}
        return list(found.items())

    def progress(self) -> tuple[int, int] | None:
        """Least and most iterations done in open groups."""
        counts = [n for group in self._open.values() for n in group.done.values()]
        return (min(counts), max(counts)) if counts else None

    # -- groups ----------------------------------------------------------------------------------

    def _open_groups(self) -> None:
        """Open groups until every worker has two tiles to alternate between."""
        busy = 2 * len(self._workers)
        while self._waiting and sum(len(g.tiles) for g in self._open.values()) < busy:
            tiles = self._waiting.popleft()
            near = {t.name: [s.name for s in self.grid.senders(t) if s != t] for t in tiles}
            group = _Group(
                unit=unit_name(tiles),
                tiles={t.name: t for t in tiles},
                senders={name: tuple(names) for name, names in near.items()},
                receivers={
                    t.name: tuple(r.name for r in self.grid.receivers(t) if r != t) for t in tiles
                },
                resident=self.resident,
            )
            self._open[group.unit] = group
            for name in group.tiles:
                self._of[name] = group
            self._start(group)

    def _start(self, group: _Group) -> None:
        """Set all tiles to the newest generation."""
        start = self.history.newest(list(group.tiles.values()))
        n = start.iteration if start else 0
        group.committed, group.saving, group.hold = n, set(), None
        group.done = dict.fromkeys(group.tiles, n)
        group.busy.clear()
        group.begun.clear()
        group.load = dict.fromkeys(group.tiles, start)
        group.mail = {name: {} for name in group.tiles}
        group.digests = {n: dict(start.digests)} if start else {}
        group.parts = {}
        self._settle(group)
        self._wake(group)

    def _roll_back(self, group: _Group) -> None:
        group.epoch += 1
        self._start(group)

    def _staying(self) -> list[str]:
        return [w for w in self._workers if w not in self._leaving]

    def _hold(self, group: _Group) -> None:
        """Stop at the next checkpoint, so that tiles can change workers there."""
        if group.hold is None:
            group.hold = self._begin_saving(group)

    def _settle(self, group: _Group) -> None:
        """Give the tiles homes: neighbours on the same worker, as evenly as it goes."""
        workers = self._staying()
        if not group.resident or not workers:
            return
        load = dict.fromkeys(workers, 0)
        for other in self._open.values():
            if other is not group:
                for home in other.home.values():
                    if home in load:
                        load[home] += 1
        workers.sort(key=lambda w: load[w])
        count, tiles = len(workers), len(group.tiles)
        for i, name in enumerate(group.tiles):
            home = workers[i * count // tiles if tiles >= count else i]
            before = group.home.get(name, home)
            if before != home and before in self._workers:
                self._drops.setdefault(before, []).append(name)
            group.home[name] = home

    def _spread(self) -> None:
        """Let workers with few tiles take some of those with many.

        Tiles that nobody has begun change at once, the others at their group's next checkpoint, and
        only for the sake of workers that have nothing to do.
        """
        load = dict.fromkeys(self._staying(), 0)
        groups = [g for g in self._open.values() if g.resident]
        for group in groups:
            for home in group.home.values():
                if home in load:
                    load[home] += 1
        for group in groups:
            for name, home in reversed(group.home.items()):
                least = min(load, key=lambda w: load[w])
                held = load.get(home)  # None of a worker that is leaving
                if name not in group.begun and (held is None or held > load[least] + 1):
                    if group.epoch and home in self._workers:  # begun before it went back
                        self._drops.setdefault(home, []).append(name)
                    group.home[name] = least
                    load[least] += 1
                    if held is not None:
                        load[home] -= 1
                    self._push(group, name)
        if 0 in load.values():
            for group in groups:
                if any(load.get(home, 0) > 1 for home in group.home.values()):
                    self._hold(group)

    def _wake(self, group: _Group) -> None:
        for name in group.tiles:
            self._push(group, name)

    def _close(self, group: _Group) -> None:
        for name in group.tiles:
            del self._of[name]
            if group.resident:
                self._drops.setdefault(group.home[name], []).append(name)
        del self._open[group.unit]
        self.history.forget(group.unit)
        if self._staying():
            self._open_groups()

    # -- tiles -----------------------------------------------------------------------------------

    def _can_begin(self, group: _Group, name: str) -> bool:
        """Whether the tile's next call can be made: the tiles around it are as far."""
        n = group.done[name]
        if name in group.busy or (n >= self.plan.iterations and name in group.written):
            return False
        if group.hold is not None and n >= group.hold:
            return False
        done = group.done
        return all(done[other] >= n for other in group.senders[name])

    def _push(self, group: _Group, name: str) -> None:
        if self._can_begin(group, name):
            queue = group.home.get(name, "") if group.resident else ""
            self._ready.setdefault(queue, deque()).append((name, group.epoch))

    def _task(self, group: _Group, name: str) -> Assignment:
        tile, n = group.tiles[name], group.done[name]
        group.busy.add(name)
        group.begun.add(name)
        last = n >= self.plan.iterations
        load = group.load[name]
        if n > 0 and not group.resident and load is None:
            load = Generation(n, group.digests[n])
        if load is not None:
            load = Generation(n, self._needed(group, tile, load))
        mail = group.mail[name].get(n, {}) if load is None and n > 0 else {}
        senders = tuple(sorted(mail))
        task = Task(
            kind="finish" if last else "step",
            tile=tile,
            n=n,
            load=load,
            save=not last and (not group.resident or n + 1 in group.saving),
            keep=group.resident,
            senders=senders,
            receivers=tuple(group.tiles[r] for r in group.receivers[name])
            if group.resident and not last
            else (),
            epoch=group.epoch,
        )
        return task, tuple(mail[s] for s in senders)

    def _needed(self, group: _Group, tile: Tile, generation: Generation) -> dict[str, str]:
        """Digests of the chunks that a tile reads: a call need not carry all."""
        read = tile.read_box.y
        keys = [
            key
            for name in (*group.senders[tile.name], tile.name)
            for key in self.grid.chunks(group.tiles[name], read)
        ]
        return {key: generation.digests[key] for key in keys}

    # -- checkpoints -----------------------------------------------------------------------------

    def _begin_saving(self, group: _Group) -> int | None:
        """Checkpoint the first iteration that no tile has begun; None when that is the last."""
        n = 1 + max(n + (name in group.busy) for name, n in group.done.items())
        if n >= self.plan.iterations:
            return None
        group.saving.add(n)
        return n

    def _whole(self, group: _Group, n: int) -> None:
        """All chunks of a generation are on disk."""
        if n > group.committed:
            self._commits.append((group.unit, Generation(n, group.digests[n])))
        for old in [k for k in group.digests if k < n - 1]:
            del group.digests[old]
            group.parts.pop(old, None)
