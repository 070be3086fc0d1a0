"""The figures of a run are counted once, whatever is repeated."""

import math
import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddgm_dist.engine.faults import Action
from ddgm_dist.engine.tally import Tally
from ddgm_dist.tile.events import Event, FaultEvent, PoolEvent, Receipt, SaveEvent, StepEvent

PROBLEM: Any = SimpleNamespace(
    intensity=SimpleNamespace(std=10.0, sigma_y=4.0),
    schedule=SimpleNamespace(sigma=[3.0, 2.0, 1.0, 0.5], steps=[5.0, 4.0, 3.0, 2.0]),
)


def step(n: int, tile: str = "t", residual: float = 8.0) -> StepEvent:
    return StepEvent(tile, n, 3.0 - n, residual, 2.0, 100, {"gradient": 1.0, "denoise": 3.0}, "w")


def fault(action: str, kind: str = "worker-lost") -> FaultEvent:
    return FaultEvent(kind, "w", "t", action, "gone", 6.0)


def counted(*events: Event, **keys: Any) -> Tally:
    tally = Tally(PROBLEM, **keys)
    for event in events:
        tally.add(event)
    return tally


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3)), max_size=40))
def test_a_repeated_step_is_work_and_no_progress(steps: list[tuple[str, int]]) -> None:
    """Its residual is that of the same estimate: it must not weigh twice."""
    tally = counted(*(step(n, tile, 8.0 + n) for tile, n in steps), total=10_000)
    seen = set(steps)
    for n in range(4):
        tiles = sum(m == n for _, m in seen)
        assert tally.squared.get(n, 0.0) == tiles * (8.0 + n)
        assert tally.samples.get(n, 0.0) == tiles * 2.0
        assert tally.residual(n) == (10 * math.sqrt((8.0 + n) / 2) if tiles else 0.0)
    assert [r["n"] for r in tally.residuals()] == sorted({n for _, n in seen})
    assert tally.steps == len(steps)
    assert tally.seconds.get("denoise", 0.0) == 3.0 * len(steps)
    assert tally.gradient_share == (0.25 if steps else 0.0)


def test_a_receipt_adds_the_seconds_that_no_step_has() -> None:
    receipt = Receipt("t", "d", {"read": 2.0, "gradient": 1.0, "denoise": 3.0}, "w", work=400)
    tally = counted(step(0), receipt, total=1000, before=300, tiles=3, tiles_done=1)
    assert tally.seconds == {"gradient": 1.0, "denoise": 3.0, "read": 2.0}
    assert (tally.done, tally.tiles_done) == (700, 2)


@pytest.mark.parametrize(
    "good", [step(1), SaveEvent("t", 1, 10, 0.5, "w", 1.0), Receipt("t", "d", {}, "w")]
)
def test_losses_in_a_row_end_with_anything_that_is_done(good: Event) -> None:
    lost = [fault(action) for action in Action]
    tally = counted(step(0), *lost, fault("move its work", "draining"))
    assert (tally.losses, tally.losses_in_a_row) == (2, 2)
    assert tally.faults == {"worker-lost": len(Action), "draining": 1}
    tally.add(good)
    assert (tally.losses, tally.losses_in_a_row) == (2, 0)
    tally.add(lost[list(Action).index(Action.REPLACE)])
    assert (tally.losses, tally.losses_in_a_row) == (3, 1)


def test_times_of_what_is_done_and_of_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    tally = Tally(PROBLEM)
    found = []
    for event in (
        PoolEvent(3, 1, 2, 0.0), step(0), SaveEvent("t", 1, 10, 0.5, "w", 1001.0),
        fault("redo"), Receipt("t", "d", {}, "w"),
    ):  # fmt: skip
        now += 1
        tally.add(event)
        found.append((tally.last_event, tally.progressed, tally.secured, tally.checkpointed))
    assert found == [
        (None, 1000, 1000, None),
        (1002, 1002, 1000, None),
        (1003, 1002, 1001.5, 1001.5),
        (1004, 1002, 1001.5, 1001.5),
        (1005, 1005, 1005, 1001.5),
    ]
    assert (tally.workers, tally.span) == (3, (1, 2))
    tally.add(PoolEvent(2, None, None, 0.0))
    assert (tally.workers, tally.span) == (2, None)
    assert (tally.saved_bytes, tally.saved_seconds) == (10, 0.5)


def test_what_is_done_at_the_start_are_the_written_tiles() -> None:
    size = SimpleNamespace(size=50)
    tiles = [SimpleNamespace(name=name, write_box=size) for name in "abc"]
    plan: Any = SimpleNamespace(tiles=tiles, work=600, iterations=4, units=4)
    tally = Tally.begin(PROBLEM, plan, {"a", "c", "mean-a"})
    assert (tally.total, tally.before, tally.tiles, tally.tiles_done) == (600, 400, 4, 3)
    assert tally.done == 400
    for n in range(4):
        tally.add(step(n))
    assert tally.done == 600  # at most all, whatever events say
