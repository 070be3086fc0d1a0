"""The driver's loop without Ray: real workers, or scripted ones, in one process."""

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.exceptions import ObjectLostError

from ddgm_dist.core.box import Box
from ddgm_dist.engine.coupled import GroupWork
from ddgm_dist.engine.work import Task, TileWork
from ddgm_dist.errors import DdgmError, StorageError
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.ray_engine.calls import CallsInFlight
from ddgm_dist.ray_engine.watch import Timeouts
from ddgm_dist.ray_engine.worker import Heartbeat
from ddgm_dist.records.checkpoint import Checkpoints, Generation
from ddgm_dist.runs.result import Result
from ddgm_dist.tile.events import FaultEvent, PoolEvent, Receipt, StepEvent
from ddgm_dist.tile.history import unit_name
from ddgm_dist.tile.solver import StaleStepError, Stepped
from tests.ray_engine.inline import DiesError, InlineEngine, InlinePool

Solve = Callable[..., tuple[np.ndarray, Result]]

COUPLED: dict[str, Any] = {"tile_columns": 64, "margin": 24, "state": "memory"}
KEYS: dict[str, Any] = {"N": 4, "tile_rows": 4, "checkpoint_every": 0}


def steps(engine: InlineEngine) -> Counter[tuple[str, int]]:
    """How often each step was reported."""
    return Counter((e.tile, e.iteration) for e in engine.seen if isinstance(e, StepEvent))


def fill_disk(monkeypatch: pytest.MonkeyPatch, failures: float) -> list[StorageError]:
    """Refuse the writes of one tile's checkpoint of two iterations; returns the refusals."""
    write, refused = Checkpoints.write, list[StorageError]()

    def refuse(self: Checkpoints, n: int, column: int, first: int, state: Any) -> Any:
        if (n, column, first) == (2, 1, 4) and len(refused) < failures:
            refused.append(StorageError("writing to the disk failed; 0 bytes are free there"))
            raise refused[-1]
        return write(self, n, column, first, state)

    monkeypatch.setattr(Checkpoints, "write", refuse)
    return refused


def test_a_checkpoint_that_cannot_be_written_once_costs_no_other_step(
    tilts: Path, solve: Solve, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, result = solve(tilts, **KEYS, **COUPLED)
    refused = fill_disk(monkeypatch, 1)
    engine = InlineEngine(monkeypatch)
    volume, _ = solve(tilts, engine, **KEYS, **COUPLED)
    np.testing.assert_array_equal(volume, expected)
    assert len(refused) == 1
    assert [(f.kind, f.action) for f in engine.faults] == [("storage", "redo")]
    # The step whose state could not be written was reported once, when it was done again.
    assert steps(engine) == Counter(product((t.name for t in result.plan.tiles), range(KEYS["N"])))


def test_a_disk_that_stays_full_ends_the_run_and_is_named(
    tilts: Path, solve: Solve, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = fill_disk(monkeypatch, float("inf"))
    engine = InlineEngine(monkeypatch)
    with pytest.raises(StorageError, match="0 bytes are free there"):
        solve(tilts, engine, **KEYS, **COUPLED)
    assert len(refused) == 3
    assert [f.action for f in engine.faults] == ["redo", "redo", "fail"]
    assert {f.kind for f in engine.faults} == {"storage"}


# -- scripted workers -----------------------------------------------------------------------------


class Row:
    """Tiles in rows of which each is a group, and columns, each touching those beside it."""

    def __init__(self, columns: int, groups: int) -> None:
        self.groups = [
            [
                Tile(
                    f"y{y}-x{x}",
                    Box((0, y, 10 * x), (1, y + 1, 10 * x + 10)),
                    Box((0, y, 10 * x - 5), (1, y + 1, 10 * x + 15)),
                    y,
                )
                for x in range(columns)
            ]
            for y in range(groups)
        ]

    def senders(self, tile: Tile) -> list[Tile]:
        group = self.groups[tile.group]
        at = group.index(tile)
        return group[max(0, at - 1) : at + 2]

    receivers = senders

    def chunks(self, tile: Tile, rows: slice | None = None) -> list[str]:
        return [tile.name]


class Commits:
    """The newest generation of each unit."""

    def __init__(self) -> None:
        self.newest_of = dict[str, Generation]()

    def newest(self, tiles: Sequence[Tile]) -> Generation | None:
        return self.newest_of.get(unit_name(tiles))

    def commit(self, unit: str, generation: Generation) -> None:
        self.newest_of[unit] = generation

    def forget(self, unit: str) -> None:
        self.newest_of.pop(unit, None)


class Scripted:
    """A worker that computes nothing, and fails as a test says."""

    def __init__(self, fail: Callable[[Task], None]) -> None:
        self.fail = fail

    def run(self, task: Task) -> Any:
        self.fail(task)
        return Receipt(task.tile.name, "", {}, ""), []

    def step(self, task: Task, *pieces: Any) -> Any:
        self.fail(task)
        stepped = Stepped([], {task.tile.name: ""} if task.save else {})
        return [stepped, *task.receivers] if task.receivers else stepped

    def finish(self, task: Task, *pieces: Any) -> Receipt:
        self.fail(task)
        return Receipt(task.tile.name, "", {}, "")

    def heartbeat(self) -> Heartbeat:
        return Heartbeat([], 0)

    def combine(self, task: Task) -> Receipt:
        self.fail(task)
        return Receipt(task.tile.name, "", {}, "")

    def drop(self, tiles: list[str]) -> None:
        """There is nothing to drop."""

    def drain(self) -> None:
        """Nothing is under way between calls."""


class Slow:
    """A worker whose call takes several iterations; its clock is the driver's.

    Parameters
    ----------
    engine
        Engine that has the clock.
    seconds
        Duration of each iteration.
    """

    def __init__(self, engine: InlineEngine, seconds: Sequence[float]) -> None:
        self.engine, self.seconds = engine, seconds
        self.began, self.reported = engine.clock.now, 0

    def busy(self) -> bool:
        """Whether the call is running: its answer does not come yet."""
        return self.engine.clock.now < self.began + sum(self.seconds)

    def run(self, task: Task) -> Any:
        return Receipt(task.tile.name, "", {}, ""), []

    def heartbeat(self) -> Heartbeat:
        passed, ended = self.engine.clock.now - self.began, 0
        while ended < len(self.seconds) and sum(self.seconds[: ended + 1]) <= passed:
            ended += 1
        events = [
            StepEvent("y0-x0", n, 0, 0, 0, 1, {"denoise": self.seconds[n]})
            for n in range(self.reported, ended)
        ]
        self.reported = ended
        return Heartbeat(list(events), ended)


@pytest.mark.parametrize(
    ("seconds", "stalled"),
    [
        ([100] * 3 + [1900] + [100] * 3, False),  # 20 times the longest until then, but less
        ([100] * 3 + [6100] + [100] * 3, True),  # 60 times
        ([890, 100], False),  # nothing is known yet: 3 * stall
        ([910, 100], True),
    ],
)
def test_a_living_worker_is_given_up_by_the_longest_iteration_so_far(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float], stalled: bool
) -> None:
    engine = InlineEngine(monkeypatch, 1, make=lambda job, name: slow)
    slow = Slow(engine, seconds)
    engine.ray.busy = slow.busy
    tiles = Row(1, 1).groups[0]
    seen = dispatch(engine, Commits(), TileWork(tiles, Commits()))  # type: ignore[arg-type]
    faults = [event.kind for event in seen if isinstance(event, FaultEvent)]
    assert (set(faults) == {"stalled"}) is stalled
    assert bool(faults) is stalled


def dispatch(engine: InlineEngine, history: Any, *stages: Any) -> list[Any]:
    """Events of a run, without the pool's; the error that ends it comes last."""
    seen: list[Any] = []
    with tempfile.TemporaryDirectory() as out:
        job: Any = SimpleNamespace(checkpoint_every=0.1, out=Path(out), digest="problem")
        try:
            engine.dispatch(job, stages, history, seen.append)
        except DdgmError as error:
            seen.append(error)
    return [event for event in seen if not isinstance(event, PoolEvent)]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_tile_that_kills_its_workers_is_given_up_and_the_others_are_done(
    monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    def fail(task: Task) -> None:
        if task.tile.name == "y3-x0":
            raise DiesError

    engine = InlineEngine(monkeypatch, workers, make=lambda job, name: Scripted(fail))
    tiles = [tile for group in Row(1, 12).groups for tile in group]
    work = TileWork(tiles, history := Commits())  # type: ignore[arg-type]
    seen = dispatch(engine, history, work)
    lost = [e for e in seen if isinstance(e, FaultEvent)]
    assert [(f.kind, f.tile) for f in lost] == [("worker-lost", "y3-x0")] * 5
    assert "y3-x0: worker-lost" in str(seen[-1])
    first, second = (seen.index(f) for f in lost[:2])
    assert first < second
    done = {e.tile for e in seen[:second] if isinstance(e, Receipt)}
    assert done == {tile.name for tile in tiles} - {"y3-x0"}


def test_a_group_that_goes_back_again_and_again_is_given_up_though_another_advances(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(task: Task) -> None:
        if (task.tile.name, task.n) == ("y0-x0", 2):
            raise StaleStepError("it never gets further")

    engine = InlineEngine(monkeypatch, 2, make=lambda job, name: Scripted(fail))
    row, history = Row(2, 2), Commits()
    plan: Any = SimpleNamespace(iterations=500)
    work = GroupWork(plan, row, history, row.groups, resident=True)  # type: ignore[arg-type]
    seen = dispatch(engine, history, work)
    assert "y0-x0, iteration 2: stale" in str(seen[-1])
    # Its own checkpoints, before it got that far, have given it some more.
    *back, last = [event.action for event in seen[:-1]]
    assert last == "fail"
    assert set(back) == {"roll back"}
    assert 16 <= len(back) <= 18


def test_a_group_goes_back_once_however_many_calls_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twenty calls in flight, each of which was to take a piece that is gone."""
    failed = set[str]()

    def fail(task: Task) -> None:
        if task.n == 1 and len(failed) < 20 and task.tile.name not in failed:
            failed.add(task.tile.name)
            raise ObjectLostError("0" * 56, None, "")

    engine = InlineEngine(monkeypatch, 10, make=lambda job, name: Scripted(fail))
    row, history = Row(20, 1), Commits()
    plan: Any = SimpleNamespace(iterations=3)
    work = GroupWork(plan, row, history, row.groups, resident=True)  # type: ignore[arg-type]
    seen = dispatch(engine, history, work)
    assert len(failed) == 20
    assert {e.kind for e in seen if isinstance(e, FaultEvent)} == {"object-lost"}
    assert sum(isinstance(e, Receipt) for e in seen) == 20


class Silent(Scripted):
    """Its heartbeats are lost."""

    mute = ("heartbeat",)


def test_the_last_heartbeats_are_waited_for_together(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = InlineEngine(
        monkeypatch,
        5,
        make=lambda job, name: Silent(lambda task: None),
        timeouts=Timeouts(heartbeat=0.0),
    )
    tiles = [tile for group in Row(1, 12).groups for tile in group]
    seen = dispatch(engine, Commits(), TileWork(tiles, Commits()))  # type: ignore[arg-type]
    assert len(seen) == 12
    assert [wait for wait in engine.ray.waits if wait[1] == 10.0] == [(5, 10.0)]


# -- two stages: samples, then what is combined of them -------------------------------------------


class Noted(Scripted):
    """A worker that notes its calls: worker, kind of call, tile, and whether it is a retry."""

    def __init__(self, name: str, calls: list[Any], fail: Callable[[Task], None]) -> None:
        super().__init__(fail)
        self.name, self.calls = name, calls

    def run(self, task: Task) -> Any:
        self.note(task)
        return super().run(task)

    def combine(self, task: Task) -> Receipt:
        self.note(task)
        return super().combine(task)

    def note(self, task: Task) -> None:
        self.calls.append((self.name, task.kind, task.tile.name, task.retried))


def two_stages() -> tuple[TileWork, TileWork]:
    """Three tiles to be solved, and two to be combined."""
    samples = [tile for group in Row(1, 3).groups for tile in group]
    combined = [replace(tile, name=f"mean-{tile.name}") for tile in samples[:2]]
    return TileWork(samples, Commits()), TileWork(combined, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("killed", ["", "y0-x0", "y2-x0", "mean-y1-x0"])
def test_nothing_is_combined_before_all_is_solved_whoever_is_lost(
    monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    calls: list[Any] = []
    left = {killed}

    def fail(task: Task) -> None:
        if task.tile.name in left:
            left.clear()
            raise DiesError

    engine = InlineEngine(monkeypatch, 2, make=lambda job, name: Noted(name, calls, fail))
    seen = dispatch(engine, Commits(), *two_stages())
    done = [event.tile for event in seen if isinstance(event, Receipt)]
    assert sorted(done[:3]) == ["y0-x0", "y1-x0", "y2-x0"]
    assert sorted(done[3:]) == ["mean-y0-x0", "mean-y1-x0"]
    kinds = [kind for _, kind, _, _ in calls]
    assert kinds == sorted(kinds, reverse=True)  # "run" before "combine"
    assert [tile for _, _, tile, retried in calls if retried] == [killed] * bool(killed)


def test_a_worker_that_drains_in_the_first_stage_gets_no_call_of_the_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second stage begins before its node is looked at again."""
    calls: list[Any] = []
    engine = InlineEngine(
        monkeypatch,
        2,
        make=lambda job, name: Noted(name, calls, lambda task: None),
        timeouts=Timeouts(drain=1e6),
    )
    first, second = two_stages()
    begun: list[str] = []
    begin = CallsInFlight.begin

    def watched(self: CallsInFlight, work: Any) -> None:
        for worker in self.pool.ready[:1] if work is second else []:
            worker.draining = True
            begun.append(worker.name)
        begin(self, work)

    monkeypatch.setattr(CallsInFlight, "begin", watched)
    dispatch(engine, Commits(), first, second)
    assert begun == ["worker-0"]
    combining = {name for name, kind, _, _ in calls if kind == "combine"}
    assert combining == {"worker-1"}


def test_a_stale_step_that_ends_in_the_second_stage_is_dropped_by_its_worker() -> None:
    pool: Any = InlinePool(lambda name: Scripted(lambda task: None), 1)
    pool.admit()
    (worker,) = pool.ready
    dropped: list[list[str]] = []
    worker.actor.drop = SimpleNamespace(remote=dropped.append)
    row, plan = Row(1, 1), SimpleNamespace(iterations=1)
    first = GroupWork(plan, row, Commits(), row.groups, resident=True)  # type: ignore[arg-type]
    calls = CallsInFlight(pool, first)
    calls.begin(first)
    calls.submit()
    (stale,) = calls.of(worker)
    first.roll_back(stale.task)
    # The tile's new calls end before the stale one does.
    while not first.finished:
        found = first.next(worker.name, ahead=False)
        assert found is not None
        first.done(found[0], {}, ())
    calls.drop_states(first)
    assert dropped == [[stale.tile]]
    calls.begin(two_stages()[1])
    assert stale.is_stale
    calls.discard(stale)
    assert dropped == [[stale.tile]] * 2
