"""The log and the progress of a session: complete, and never the reason why a run ends."""

import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ddgm_dist.engine.faults import Action
from ddgm_dist.engine.tally import Tally
from ddgm_dist.errors import StorageError
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.runs.event_log import EventLog
from ddgm_dist.tile.events import Event, FaultEvent, PoolEvent, Receipt, SaveEvent, StepEvent


def step(n: int, tile: str = "t") -> StepEvent:
    return StepEvent(tile, n, 3.0 - n, 8.0, 2.0, 100, {"gradient": 1.0}, "w", 5.0)


def fault(action: str) -> FaultEvent:
    return FaultEvent("worker-lost", "w", "t", action, "gone", 6.0)


@pytest.fixture
def events(tmp_path: Path) -> EventLog:
    problem: Any = SimpleNamespace(intensity=SimpleNamespace(std=10.0))
    tally = Tally(problem, total=1000, before=200, tiles=4, tiles_done=1)
    return EventLog(RunRecord(tmp_path / "out.zarr"), "session", tally)


def feed(events: EventLog, *reported: Event) -> None:
    for event in reported:
        events.tally.add(event)
        events(event)


def test_progress_tells_of_the_latest_step_and_of_losses(events: EventLog) -> None:
    with events:
        assert events.record.read_json("progress")["residual"] is None
        feed(events, step(0), step(1), step(1), PoolEvent(3, 1, 2, 0.0), Receipt("t", "d", {}, "w"))
        feed(events, *(fault(action) for action in Action))
    found = events.record.read_json("progress")
    assert (found["iteration"], found["sigma"], found["residual"]) == (1, 2.0, 20.0)
    assert (found["voxels_done"], found["voxels_total"], found["repeated"]) == (400, 1000, 100)
    assert (found["tiles_done"], found["workers"], found["iterations"]) == (2, 3, [1, 2])
    assert found["losses"] == 2  # replaced, and replaced by one that does less at a time
    assert found["started"] <= found["last_event"] <= found["updated"]


def test_what_a_checkpoint_brought_is_done(events: EventLog) -> None:
    with events:
        feed(events, step(5))
    found = events.record.read_json("progress")
    assert found["voxels_done"] == 200 + 600
    assert found["rate"] <= 100 / 1.0  # the step took a second; what it began from is no speed


def test_the_time_that_workers_take_to_start_is_no_slow_work(
    events: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = events.tally.started
    monkeypatch.setattr(time, "time", lambda: now)
    assert events.progress()["rate"] == 0
    now += 1000
    feed(events, step(0))
    assert events.progress()["rate"] == pytest.approx(100)  # a second by its own account
    now += 3
    assert events.progress()["rate"] == pytest.approx(25)


def test_a_store_that_fails_for_a_while_stops_nothing_and_loses_nothing(
    events: EventLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr("ddgm_dist.runs.event_log.FLUSH_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "append_events", full)
        feed(events, step(0), step(1))
    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "write_json", full)
        feed(events, step(2))
    with events:
        feed(events, step(3))
    assert [e["iteration"] for e in events.record.events()] == [0, 1, 2, 3]
    warned = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warned) == 1
    assert "the disk is full" in warned[0].getMessage()


def test_events_are_logged_with_tile_iteration_and_worker(
    events: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "ddgm_dist")
    save, receipt = SaveEvent("t", 4, 1024, 0.5, "w"), Receipt("t", "d", {}, "w")
    feed(events, step(3), save, receipt, fault("redo"), PoolEvent(1, None, None, 0.0))
    found = [(r.levelname, r.tile, r.iteration, r.worker) for r in caplog.records]  # type: ignore[attr-defined]
    assert found == [
        ("DEBUG", "t", 3, "w"),
        ("INFO", "t", 4, "w"),
        ("INFO", "t", None, "w"),
        ("WARNING", "t", None, "w"),
    ]
