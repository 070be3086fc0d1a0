"""Nothing is combined before all is solved, and each call's outcome goes to the stage it is of."""

from types import SimpleNamespace
from typing import Any

from ddgm_dist.core.box import Box
from ddgm_dist.engine.stages import Stages
from ddgm_dist.engine.work import Task, TileWork
from ddgm_dist.planning.tiling import Tile

BOX = Box((0, 0, 0), (4, 2, 8))
HISTORY: Any = SimpleNamespace(newest=lambda tiles: None)


def stages() -> Stages:
    samples = [Tile(f"s{k:04d}-{BOX}", BOX, BOX, k, k) for k in range(2)]
    return Stages(TileWork(samples, HISTORY), TileWork([Tile("y", BOX, BOX, 0)], None))


def take(work: Stages, worker: str) -> Task | None:
    found = work.next(worker, ahead=False)
    return None if found is None else found[0]


def test_combined_last() -> None:
    work = stages()
    work.assign(["a", "b"])
    first, second = take(work, "a"), take(work, "b")
    assert first is not None
    assert second is not None
    assert (first.kind, second.kind, take(work, "a")) == ("run", "run", None)
    work.done(first, {}, ())
    assert take(work, "a") is None
    work.again(second)
    again = take(work, "a")
    assert again is not None
    assert (again.tile, again.retried) == (second.tile, True)
    work.done(again, {}, ())
    assert not work.finished
    assert work.void(second)  # done by another
    last = take(work, "b")
    assert last is not None
    assert (last.kind, last.load, work.void(last)) == ("combine", None, False)
    work.again(last)
    last = take(work, "a")
    assert last is not None
    assert last.retried
    work.done(last, {}, ())
    assert work.finished
    assert work.void(last)


def test_who_leaves_gets_no_call_of_either_stage() -> None:
    work = stages()
    work.assign(["a", "b"])
    assert work.evacuate("a")
    assert take(work, "a") is None
    for _ in range(2):
        task = take(work, "b")
        assert task is not None
        work.done(task, {}, ())
    assert take(work, "a") is None
    assert take(work, "b") is not None
