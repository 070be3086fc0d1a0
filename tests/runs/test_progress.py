"""The progress bar shows what event log, metrics and result show."""

import io
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from ddgm_dist.core.intensity import Intensity
from ddgm_dist.engine.tally import Tally
from ddgm_dist.ray_engine.metrics import METRICS
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.runs.event_log import EventLog
from ddgm_dist.runs.progress import Bar
from ddgm_dist.tile.events import FaultEvent, PoolEvent, StepEvent


def test_bar_event_log_metrics_and_result_show_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(n: int) -> StepEvent:
        seconds = {"gradient": 1.0, "denoise": 3.0}
        return StepEvent("t", n, 3.0 - n, 8.0, 2.0, 100, seconds, "w")

    problem: Any = SimpleNamespace(
        intensity=Intensity(mean=0.0, std=10.0, sigma_y=4.0),
        schedule=SimpleNamespace(sigma=[3.0, 2.0, 1.0], steps=[5.0, 4.0, 3.0]),
    )
    lost = FaultEvent("worker-lost", "w", "t", "replace the worker", "gone", 6.0)
    now = 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    tally = Tally(problem, total=2000, before=500, tiles=5, tiles_done=1)
    log, bar = EventLog(RunRecord(tmp_path / "o.zarr"), "s", tally), Bar(tally, shown=True, every=0)
    bar.console = Console(file=io.StringIO(), width=200)
    for event in (PoolEvent(3, 1, 2, 0.0), step(1), step(1), lost, step(2)):
        now += 4
        tally.add(event)
        for show in (log, bar):
            show(event)
    found, read = log.progress(), {name: m.read(tally) for name, m in METRICS.items()}
    text = bar.console.file.getvalue().splitlines()[-1]  # type: ignore[attr-defined]
    assert tally.residuals()[-1]["residual"] == found["residual"] == 20.0
    assert read["ddgm_residual"] == 2.0
    assert "residual 5 sigma_y" in text
    # The step that came first had taken 4 s: 200 voxels in 16 s.
    assert found["rate"] == tally.rate == 200 / 16
    assert f"{tally.rate / 1e6:.2g} Mvoxel/s" in text
    assert found["voxels_done"] == tally.done == 500 + 300
    assert read["ddgm_progress_ratio"] == 800 / 2000
    assert text.startswith(f"{100 * 200 / 1400:.1f} %")
    assert text.endswith(", ETA 1 min 36 s")  # 1200 voxels at 12.5 per second
    assert (found["losses"], found["workers"], found["repeated"]) == (1, 3, 100)
    assert (read["ddgm_workers"], read["ddgm_voxels_total"]) == (3, 300)
    assert read["ddgm_phase_seconds_total"] == tally.seconds == {"gradient": 3.0, "denoise": 9.0}


def test_a_residual_is_held_against_the_misfit_where_that_is_more_than_the_noise() -> None:
    problem: Any = SimpleNamespace(
        intensity=Intensity(mean=0.0, std=10.0, sigma_y=0.1, misfit=8.0),
        schedule=SimpleNamespace(sigma=[3.0], steps=[5.0]),
    )
    tally = Tally(problem, total=2000, before=0, tiles=5, tiles_done=0)
    bar = Bar(tally, shown=True, every=0)
    bar.console = Console(file=io.StringIO(), width=200)
    event = StepEvent("t", 0, 3.0, 8.0, 2.0, 100, {"gradient": 1.0}, "w")
    tally.add(event)
    bar(event)
    assert "residual 2.5 misfit" in bar.console.file.getvalue()  # type: ignore[attr-defined]
