"""The graph of coupled calls gives the for-loop's result under any order of events and any loss.

Nothing is computed. The state of a tile is a hash of the states it was made from, so that a wrong or
missing piece shows in the end.
"""

import random
from dataclasses import dataclass, field
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddgm_dist.core.box import Box
from ddgm_dist.engine.coupled import GroupWork
from ddgm_dist.engine.work import Assignment, Task
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.records.checkpoint import Generation
from ddgm_dist.tile.solver import StaleStepError

ZERO = 0


class Row:
    """Tiles in rows and columns, each touching those beside it."""

    def __init__(self, columns: int, groups: int, planes: bool) -> None:
        self.groups: list[list[Tile]] = []
        ys = range(groups)
        tiles = {
            (y, x): Tile(
                f"y{y}-x{x}",
                Box((0, y, 10 * x), (1, y + 1, 10 * x + 10)),
                Box((0, y, 10 * x - 5), (1, y + 1, 10 * x + 15)),
                0 if planes else y,
            )
            for y, x in product(ys, range(columns))
        }
        self.near = {
            tile.name: [
                other
                for (v, u), other in tiles.items()
                if abs(x - u) <= 1 and abs(y - v) <= 1 and other.group == tile.group
            ]
            for (y, x), tile in tiles.items()
        }
        every = list(tiles.values())
        self.groups = [every] if planes else [[t for t in every if t.group == y] for y in ys]

    def senders(self, tile: Tile) -> list[Tile]:
        return self.near[tile.name]

    receivers = senders

    def chunks(self, tile: Tile, rows: slice | None = None) -> list[str]:
        return [tile.name]


@dataclass
class Store:
    """Generations and commits, as History sees them."""

    chunks: dict[tuple[int, str], int] = field(default_factory=dict)
    commits: dict[str, list[Generation]] = field(default_factory=dict)

    def newest(self, tiles: list[Tile]) -> Generation | None:
        names = {tile.name for tile in tiles}
        fit = [g for known in self.commits.values() for g in known if names <= set(g.digests)]
        return max(fit, key=lambda g: g.iteration, default=None)

    def commit(self, unit: str, generation: Generation) -> None:
        for name, digest in generation.digests.items():
            assert str(self.chunks[generation.iteration, name]) == digest
        self.commits[unit] = [generation, *self.commits.get(unit, [])][:2]

    def forget(self, unit: str) -> None:
        self.commits.pop(unit, None)


@dataclass
class Plan:
    iterations: int


def advanced(states: dict[str, int], n: int) -> int:
    return hash((n, *sorted(states.items())))


def after(row: Row, iterations: int) -> dict[str, int]:
    states = {tile.name: ZERO for group in row.groups for tile in group}
    for n in range(iterations):
        states = {
            name: advanced({t.name: states[t.name] for t in row.near[name]}, n) for name in states
        }
    return states


def for_loop(row: Row, iterations: int) -> dict[str, int]:
    states = after(row, iterations)
    return {name: advanced({t.name: states[t.name] for t in row.near[name]}, -1) for name in states}


@dataclass
class Simulation:
    """Workers that hold states, a store, and dice."""

    row: Row
    iterations: int
    resident: bool
    dice: random.Random
    faults: int
    kinds: tuple[str, ...] = ("kill", "leave", "join", "requeue", "roll back", "spill")
    store: Store = field(default_factory=Store)
    result: dict[str, int] = field(default_factory=dict)
    held: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    steps: int = 0
    made: int = 0
    stale: int = 0

    def join(self) -> None:
        self.held[f"w{self.made}"] = {}
        self.made += 1

    def compute(self, worker: str, assignment: Assignment) -> tuple[dict[str, str], list[int]]:
        task, mail = assignment
        name, n = task.tile.name, task.n
        around = [t.name for t in self.row.near[name]]
        if n == 0:
            states = dict.fromkeys(around, ZERO)
        elif task.load is not None:
            assert task.load.iteration == n
            states = {s: self.store.chunks[n, s] for s in around}
            assert all(str(v) == task.load.digests[s] for s, v in states.items())
        else:
            own = self.held[worker].get(name)
            if own is None or own[0] != n:
                raise StaleStepError(name)
            states = dict(zip(task.senders, mail, strict=True)) | {name: own[1]}
        assert set(states) == set(around)
        if task.kind == "finish":
            self.result[name] = advanced(states, -1)
            return {}, []
        self.steps += 1
        value = advanced(states, n)
        if task.keep:
            self.held[worker][name] = (n + 1, value)
        digests = {}
        if task.save:
            self.store.chunks[n + 1, name] = value
            digests = {name: str(value)}
        return digests, [value for _ in task.receivers]

    def run(self, workers: int) -> None:
        work = GroupWork(
            Plan(self.iterations),  # type: ignore[arg-type]
            self.row,  # type: ignore[arg-type]
            self.store,  # type: ignore[arg-type]
            self.row.groups,
            resident=self.resident,
        )
        for _ in range(workers):
            self.join()
        work.set_workers(list(self.held))
        flying: list[tuple[str, Assignment]] = []
        leaving: set[str] = set()
        for _ in range(100_000):
            if work.finished and not flying:
                # Or workers would hold more and more, the longer the run and the more its faults.
                assert not any(self.held.values())
                return
            for worker in self.held:
                while sum(w == worker for w, _ in flying) < 2:
                    found = work.next(worker, ahead=False)
                    if found is None:
                        break
                    flying.append((worker, found))
            if self.dice.random() < 0.1:
                work.checkpoint()
            if self.faults and self.dice.random() < 0.05:
                self.faults -= 1
                flying = self.fault(work, flying, leaving)
            if flying:
                worker, assignment = flying.pop(self.dice.randrange(len(flying)))
                task, _ = assignment
                if not work.is_stale(task):
                    try:
                        digests, pieces = self.compute(worker, assignment)
                    except StaleStepError:
                        assert self.stale  # a stale step has overwritten the tile
                        work.roll_back(task)
                    else:
                        work.done(task, digests, pieces)
                else:
                    self.end_stale(work, worker, task)
            for unit, generation in work.commits():
                self.store.commit(unit, generation)
                work.committed(unit, generation)
            for worker, names in work.drops():
                for name in names:
                    if worker in self.held:
                        self.held[worker].pop(name, None)
            for worker in list(leaving):
                busy = any(w == worker for w, _ in flying)
                if worker in self.held and work.drain(worker) and not busy:
                    self.join()
                    flying = self.lose(work, flying, worker)
        raise AssertionError("it never ends")

    def fault(
        self, work: GroupWork, flying: list[tuple[str, Assignment]], leaving: set[str]
    ) -> list[tuple[str, Assignment]]:
        kind = self.dice.choice(self.kinds)
        worker = self.dice.choice(list(self.held))
        if kind == "kill":
            self.join()
            return self.lose(work, flying, worker)
        if kind == "spill":
            work.spill_to_store()
        if kind == "leave":
            leaving.add(worker)
            self.join()
            work.set_workers(list(self.held))
        if kind == "join":
            self.join()
            work.set_workers(list(self.held))
        if flying and kind in ("requeue", "roll back"):
            w, (task, _) = flying.pop(self.dice.randrange(len(flying)))
            if kind == "requeue":
                work.requeue(task)
            else:
                work.roll_back(task)
                self.end_stale(work, w, task)  # it failed, maybe with its state kept
        return flying

    def end_stale(self, work: GroupWork, worker: str, task: Task) -> None:
        """A step that began before its group went back, maybe before its worker dropped the tile."""
        if task.keep and task.kind == "step" and self.dice.random() < 0.5:
            state = after(self.row, task.n + 1)[task.tile.name]
            self.held[worker][task.tile.name] = (task.n + 1, state)
            self.stale += 1
        work.discard(worker, task)

    def lose(
        self, work: GroupWork, flying: list[tuple[str, Assignment]], worker: str
    ) -> list[tuple[str, Assignment]]:
        del self.held[worker]
        work.lost([worker])
        for w, (task, _) in flying:
            if w == worker:
                work.requeue(task)
        work.set_workers(list(self.held))
        return [(w, a) for w, a in flying if w != worker]


@settings(max_examples=150, deadline=None)
@given(
    columns=st.integers(1, 6),
    groups=st.integers(1, 4),
    planes=st.booleans(),
    iterations=st.integers(1, 6),
    workers=st.integers(1, 4),
    resident=st.booleans(),
    faults=st.integers(0, 8),
    seed=st.integers(0, 10**6),
)
def test_any_order_and_any_loss_give_the_for_loop(
    columns: int,
    groups: int,
    planes: bool,
    iterations: int,
    workers: int,
    resident: bool,
    faults: int,
    seed: int,
) -> None:
    row = Row(columns, groups, planes)
    simulation = Simulation(row, iterations, resident, random.Random(seed), faults)
    simulation.run(workers)
    assert simulation.result == for_loop(row, iterations)
    assert not simulation.store.commits  # a finished group leaves none behind


@pytest.mark.parametrize("resident", [True, False])
def test_without_faults_every_step_is_done_once(resident: bool) -> None:
    row = Row(5, 3, planes=False)
    simulation = Simulation(row, 7, resident, random.Random(1), faults=0)
    simulation.run(3)
    assert simulation.steps == 5 * 3 * 7


@settings(max_examples=60, deadline=None)
@given(columns=st.integers(1, 6), workers=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_who_leaves_or_joins_as_announced_costs_no_step(
    columns: int, workers: int, seed: int
) -> None:
    row = Row(columns, 2, planes=False)
    dice = random.Random(seed)
    simulation = Simulation(row, 8, True, dice, faults=4, kinds=("leave", "join"))
    simulation.run(workers)
    assert simulation.steps == columns * 2 * 8
    assert simulation.result == for_loop(row, 8)


def test_workers_lost_together_roll_a_group_back_once() -> None:
    row = Row(6, 1, planes=False)
    work = GroupWork(Plan(3), row, Store(), row.groups, resident=True)  # type: ignore[arg-type]
    work.set_workers(["a", "b", "c"])
    first = [work.next(worker, ahead=False) for worker in "abc"]
    assert [found and found[0].epoch for found in first] == [0, 0, 0]
    work.lost(["a", "b"])
    work.set_workers(["c"])
    again = [work.next(worker, ahead=False) for worker in "abc"]
    assert [found and found[0].epoch for found in again] == [None, None, 1]


def test_tiles_of_a_group_are_dealt_out_evenly_and_side_by_side() -> None:
    row = Row(9, 1, planes=False)
    work = GroupWork(Plan(3), row, Store(), row.groups, resident=True)  # type: ignore[arg-type]
    work.set_workers(["a", "b", "c"])
    homes = {}
    for worker in "abc":
        while (found := work.next(worker, ahead=False)) is not None:
            homes[found[0].tile.write_box.start[2]] = worker
    order = [homes[x] for x in sorted(homes)]
    assert sorted(order.count(w) for w in "abc") == [3, 3, 3]
    assert sum(a != b for a, b in pairwise(order)) == 2


def taken(work: GroupWork, worker: str) -> list[Assignment]:
    found = []
    while (assignment := work.next(worker, ahead=False)) is not None:
        found.append(assignment)
    return found


def test_who_comes_late_takes_tiles_that_nobody_has_begun_without_a_checkpoint() -> None:
    row = Row(8, 1, planes=False)
    work = GroupWork(Plan(3), row, Store(), row.groups, resident=True)  # type: ignore[arg-type]
    work.set_workers(["a"])
    first = work.next("a", ahead=False)
    assert first is not None
    work.set_workers(["a", "b"])
    rest = {worker: taken(work, worker) for worker in "ab"}
    assert (1 + len(rest["a"]), len(rest["b"])) == (4, 4)
    assert not any(task.save for tasks in rest.values() for task, _ in tasks)


def test_tiles_that_were_begun_move_at_a_checkpoint_when_someone_has_nothing_to_do() -> None:
    row = Row(8, 1, planes=False)
    work = GroupWork(Plan(9), row, Store(), row.groups, resident=True)  # type: ignore[arg-type]
    work.set_workers(["a"])
    for task, _ in taken(work, "a"):
        work.done(task, {}, [0 for _ in task.receivers])
    work.set_workers(["a", "b"])
    assert {task.save for task, _ in taken(work, "a")} == {True}
    assert not taken(work, "b")


def test_tiles_not_begun_leave_a_worker_that_is_about_to_go_at_once() -> None:
    row = Row(4, 1, planes=False)
    work = GroupWork(Plan(9), row, Store(), row.groups, resident=True)  # type: ignore[arg-type]
    work.set_workers(["a", "b"])
    assert work.drain("a")
    assert not taken(work, "a")
    assert len(taken(work, "b")) == 4
