"""The driver's loop without Ray: real workers, or scripted ones, in one process."""

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
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
from ddgm_dist.ray_engine.dispatcher import Timeouts
from ddgm_dist.ray_engine.worker import Heartbeat
from ddgm_dist.records.checkpoint import Checkpoints, Generation
from ddgm_dist.runs.reconstruct import Result
from ddgm_dist.tile.events import FaultEvent, PoolEvent, Receipt, StepEvent
from ddgm_dist.tile.history import unit_name
from ddgm_dist.tile.solver import StaleStepError, Stepped
from tests.ray_engine.inline import DiesError, InlineEngine

Solve = Callable[..., tuple[np.ndarray, Result]]

COUPLED: dict[str, Any] = {"tile_columns": 64, "margin": 24, "state": "memory"}
KEYS: dict[str, Any] = {"N": 4, "tile_rows": 4, "checkpoint_every": 0}


def steps(engine: InlineEngine) -> Counter[tuple[str, int]]:
    """How often each step was told."""
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
    # The step whose state could not be written has told nothing before it was done again.
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

    def pulse(self) -> Heartbeat:
        return Heartbeat([], 0)

    def drop(self, tiles: list[str]) -> None:
        """There is nothing to drop."""


class Slow:
    """A worker whose call goes on through iterations of 100 s; its clock is the driver's.

    Parameters
    ----------
    engine
        Whose clock it is.
    seconds
        Of each iteration.
    """

    def __init__(self, engine: InlineEngine, seconds: Sequence[float]) -> None:
        self.engine, self.seconds = engine, seconds
        self.began, self.told = engine.clock.now, 0

    def busy(self) -> bool:
        """Whether the call goes on: its answer does not come yet."""
        return self.engine.clock.now < self.began + sum(self.seconds)

    def run(self, task: Task) -> Any:
        return Receipt(task.tile.name, "", {}, ""), []

    def pulse(self) -> Heartbeat:
        passed, ended = self.engine.clock.now - self.began, 0
        while ended < len(self.seconds) and sum(self.seconds[: ended + 1]) <= passed:
            ended += 1
        events = [
            StepEvent("y0-x0", n, 0, 0, 0, 1, {"denoise": self.seconds[n]})
            for n in range(self.told, ended)
        ]
        self.told = ended
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
    told = dispatch(engine, TileWork(tiles, Commits()), Commits())  # type: ignore[arg-type]
    faults = [event.kind for event in told if isinstance(event, FaultEvent)]
    assert (set(faults) == {"stalled"}) is stalled
    assert bool(faults) is stalled


def dispatch(engine: InlineEngine, work: Any, history: Any) -> list[Any]:
    """What is told of a run, but for the size of the pool; the error that ends it comes last."""
    told: list[Any] = []
    with tempfile.TemporaryDirectory() as out:
        job: Any = SimpleNamespace(checkpoint_every=0.1, out=out, digest="problem")
        try:
            engine.dispatch(job, work, history, told.append)
        except DdgmError as error:
            told.append(error)
    return [event for event in told if not isinstance(event, PoolEvent)]


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
    told = dispatch(engine, work, history)
    lost = [e for e in told if isinstance(e, FaultEvent)]
    assert [(f.kind, f.tile) for f in lost] == [("worker-lost", "y3-x0")] * 5
    assert "y3-x0: worker-lost" in str(told[-1])
    first, second = (told.index(f) for f in lost[:2])
    assert first < second
    done = {e.tile for e in told[:second] if isinstance(e, Receipt)}
    assert done == {tile.name for tile in tiles} - {"y3-x0"}


def test_a_group_that_goes_back_again_and_again_is_given_up_though_another_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(task: Task) -> None:
        if (task.tile.name, task.n) == ("y0-x0", 2):
            raise StaleStepError("it does not get beyond this")

    engine = InlineEngine(monkeypatch, 2, make=lambda job, name: Scripted(fail))
    row, history = Row(2, 2), Commits()
    plan: Any = SimpleNamespace(iterations=500)
    work = GroupWork(plan, row, history, row.groups, resident=True)  # type: ignore[arg-type]
    told = dispatch(engine, work, history)
    assert "y0-x0, iteration 2: stale" in str(told[-1])
    # Its own checkpoints, before it got that far, have given it some more.
    *back, last = [event.action for event in told[:-1]]
    assert last == "fail"
    assert set(back) == {"roll back"}
    assert 16 <= len(back) <= 18


def test_a_group_goes_back_once_however_many_calls_tell_of_it(
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
    told = dispatch(engine, work, history)
    assert len(failed) == 20
    assert {e.kind for e in told if isinstance(e, FaultEvent)} == {"object-lost"}
    assert sum(isinstance(e, Receipt) for e in told) == 20


class Silent(Scripted):
    """Its signs of life are lost."""

    mute = ("pulse",)


def test_the_last_signs_of_life_are_waited_for_together(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = InlineEngine(
        monkeypatch,
        5,
        make=lambda job, name: Silent(lambda task: None),
        patience=Timeouts(pulse=0.0),
    )
    tiles = [tile for group in Row(1, 12).groups for tile in group]
    told = dispatch(engine, TileWork(tiles, Commits()), Commits())  # type: ignore[arg-type]
    assert len(told) == 12
    assert [wait for wait in engine.ray.waits if wait[1] == 10.0] == [(5, 10.0)]
