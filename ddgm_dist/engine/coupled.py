"""Coupled tiles: iterations as a graph of calls, without a barrier.

Each iteration of a tile is one call, which may begin as soon as the tiles around it have done the
iteration before. *Resident* states stay with the worker that a tile is assigned to, and pieces are
handed from call to call. *Spilled* states pass through the store, and any worker takes any tile.

When a worker is lost, the group goes back to its last checkpoint. When workers join, or are about to
leave, the group stops at its next checkpoint. It continues from there with its tiles dealt out anew, so
nothing is computed twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import Any

from ddgm_dist.engine.group import Group
from ddgm_dist.engine.work import Assignment, Task, Work
from ddgm_dist.planning.plan import Plan
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.records.checkpoint import Generation
from ddgm_dist.tile.grid import TileGrid
from ddgm_dist.tile.history import History

__all__ = ["GroupWork"]


class GroupWork(Work):
    """Coupled groups: as many at a time as keep the workers busy.

    Parameters
    ----------
    plan, grid
        Tiles and their neighbourhoods.
    history
        Checkpoints that groups start from.
    groups
        Groups to compute.
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
        self._open: dict[str, Group] = {}
        self._group_of: dict[str, Group] = {}  # by tile
        # Tiles that can begin, with their group's epoch: by worker, or under "" for any worker.
        self._ready: dict[str, deque[tuple[str, int]]] = {}
        self._workers: list[str] = []
        self._leaving: set[str] = set()
        self._drops: dict[str, list[str]] = {}
        self._commits: list[tuple[str, Generation]] = []

    # -- what a scheduler asks -------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """True once no call is left."""
        return not self._waiting and not self._open

    def set_workers(self, workers: Collection[str]) -> None:
        """Set the workers that take calls; tiles move to those that have joined."""
        self._workers = sorted(workers)
        self._leaving &= set(workers)
        if not self._staying():
            return
        self._open_groups()
        for group in self._open.values():
            if group.resident and not set(group.home.values()) <= set(workers):
                self._assign_homes(group)
                self._push(group, *group.tiles)
        self._balance()

    def next(self, worker: str, *, ahead: bool) -> Assignment | None:
        """The next call for a worker, of those that can begin."""
        shared = None if worker in self._leaving else self._ready.get("")
        for queue in (self._ready.get(worker), shared):
            while queue:
                name, epoch = queue.popleft()
                group = self._group_of.get(name)
                if not group or group.epoch != epoch or not group.can_begin(name):
                    continue
                if not group.resident or group.home[name] == worker:
                    return group.begin(name)
        return None

    def done(self, task: Task, digests: dict[str, str], pieces: Sequence[Any]) -> None:
        """Book a call that succeeded; see :meth:`.Work.done`."""
        name = task.tile.name
        group = self._group_of[name]
        generation = group.end(task, digests, pieces)
        if generation is not None:
            self._commits.append((group.unit, generation))
        if task.kind != "finish":
            self._push(group, *group.receivers[name], name)
        elif len(group.written) == len(group.tiles):
            self._close(group)

    def unit(self, tile: str) -> str:
        """The name of an open tile's group; empty if that is done."""
        group = self._group_of.get(tile)
        return group.unit if group else ""

    def requeue(self, task: Task, *, last: bool = False) -> None:
        """Let a call be made again: by the worker that holds the tile, or by any.

        The tiles around it wait for it, so ``last`` changes nothing.
        """
        group = self._group_of.get(task.tile.name)
        if group and group.epoch == task.epoch:
            group.busy.discard(task.tile.name)
            self._push(group, task.tile.name)

    def is_stale(self, task: Task) -> bool:
        """Return whether the call's outcome is not needed any more."""
        group = self._group_of.get(task.tile.name)
        return group is None or group.epoch != task.epoch

    def discard(self, worker: str, task: Task) -> None:
        """A stale call has ended: the state that its worker kept of it is of no use.

        It stays where the tile is still at home: the tile's next step there replaces it.
        """
        name = task.tile.name
        group = self._group_of.get(name)
        at_home = group is not None and group.resident and group.home.get(name) == worker
        if task.keep and not at_home:
            self._drop(worker, name)

    def lost(self, workers: Collection[str]) -> None:
        """Workers were lost together with their states: their groups go back to checkpoints."""
        self._workers = [w for w in self._workers if w not in workers]
        self._leaving.difference_update(workers)
        for worker in workers:
            self._drops.pop(worker, None)
        for group in list(self._open.values()):
            if group.resident and not set(workers).isdisjoint(group.home.values()):
                self._roll_back(group)

    def roll_back(self, task: Task) -> None:
        """Take the group back to its last checkpoint, unless that happened since the call was made."""
        if not self.is_stale(task):
            self._roll_back(self._group_of[task.tile.name])

    def checkpoint(self) -> None:
        """Begin a checkpoint of every group that has none under way."""
        for group in self._open.values():
            if group.resident and not group.saving:
                group.begin_checkpoint()

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

    def spill_to_store(self) -> None:
        """Pass states and pieces through the store from now on."""
        self.resident = False
        for group in self._open.values():
            for name, home in group.home.items():
                self._drop(home, name)
            group.resident, group.home = False, {}
            self._roll_back(group)

    def drain(self, worker: str) -> bool:
        """Return whether a worker may leave without loss; if not, prepare for it to leave soon.

        Its groups are checkpointed at the next iteration, stop there, and then move to the other
        workers. Near the end they finish instead.
        """
        if worker not in self._leaving:
            self._leaving.add(worker)
            if self._staying():
                self._balance()
        held = [g for g in self._open.values() if worker in g.home.values()]
        if self._staying():
            for group in held:
                group.stop_at_checkpoint()
        return not held

    def drops(self) -> list[tuple[str, list[str]]]:
        """Workers, each with the tiles whose states it holds to no use."""
        found, self._drops = self._drops, {}
        return list(found.items())

    def progress(self) -> tuple[int, int] | None:
        """Least and most iterations done in open groups; None when there are none."""
        counts = [n for group in self._open.values() for n in group.done.values()]
        return (min(counts), max(counts)) if counts else None

    # -- groups ----------------------------------------------------------------------------------

    def _open_groups(self) -> None:
        """Open groups until every worker has two tiles to alternate between."""
        enough = 2 * len(self._workers)
        while self._waiting and sum(len(g.tiles) for g in self._open.values()) < enough:
            group = Group(
                self._waiting.popleft(), self.grid, self.plan.iterations, resident=self.resident
            )
            self._open[group.unit] = group
            self._group_of |= dict.fromkeys(group.tiles, group)
            self._start(group)

    def _start(self, group: Group) -> None:
        """Set all tiles to the newest generation."""
        group.start(self.history.newest(list(group.tiles.values())))
        self._assign_homes(group)
        self._push(group, *group.tiles)

    def _roll_back(self, group: Group) -> None:
        group.epoch += 1
        self._start(group)

    def _close(self, group: Group) -> None:
        for name in group.tiles:
            del self._group_of[name]
        for name, home in group.home.items():
            self._drop(home, name)
        del self._open[group.unit]
        self.history.forget(group.unit)
        if self._staying():
            self._open_groups()

    def _push(self, group: Group, *names: str) -> None:
        """Queue those of a group's tiles that can begin."""
        for name in names:
            if group.can_begin(name):
                queue = group.home.get(name, "") if group.resident else ""
                self._ready.setdefault(queue, deque()).append((name, group.epoch))

    def _drop(self, worker: str, name: str) -> None:
        self._drops.setdefault(worker, []).append(name)

    # -- homes of resident tiles -----------------------------------------------------------------

    def _staying(self) -> list[str]:
        return [w for w in self._workers if w not in self._leaving]

    def _held(self, groups: Collection[Group]) -> dict[str, int]:
        """Number of tiles of some groups that each staying worker holds."""
        held = dict.fromkeys(self._staying(), 0)
        for group in groups:
            for home in group.home.values():
                if home in held:
                    held[home] += 1
        return held

    def _assign_homes(self, group: Group) -> None:
        """Give the tiles homes: neighbours on the same worker, as evenly as possible."""
        if not group.resident or not self._staying():
            return
        held = self._held([other for other in self._open.values() if other is not group])
        workers = sorted(held, key=lambda w: held[w])
        count, tiles = len(workers), len(group.tiles)
        for i, name in enumerate(group.tiles):
            home = workers[i * count // tiles if tiles >= count else i]
            before = group.home.get(name, home)
            if before != home and before in self._workers:
                self._drop(before, name)
            group.home[name] = home

    def _balance(self) -> None:
        """Let workers with few tiles take some of those with many.

        Tiles that nobody has begun move at once. The others move at their group's next checkpoint,
        and only if there is a worker that has nothing to do.
        """
        groups = [g for g in self._open.values() if g.resident]
        held = self._held(groups)
        for group in groups:
            for name, home in reversed(group.home.items()):
                least = min(held, key=lambda w: held[w])
                count = held.get(home)  # None of a worker that is leaving
                if name not in group.begun and (count is None or count > held[least] + 1):
                    if group.epoch and home in self._workers:  # begun before it went back
                        self._drop(home, name)
                    group.home[name] = least
                    held[least] += 1
                    if count is not None:
                        held[home] -= 1
                    self._push(group, name)
        if 0 in held.values():
            for group in groups:
                if any(held.get(home, 0) > 1 for home in group.home.values()):
                    group.stop_at_checkpoint()
