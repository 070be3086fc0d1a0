"""Who works at a problem whose output has become another one's does the new one no harm."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.records.damage import OutputReplacedError
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.tile.events import FaultEvent, SaveEvent, StepEvent
from ddgm_dist.tile.history import History
from ddgm_dist.tile.job import Job
from ddgm_dist.tile.solver import TileSolver

Begin = Callable[..., Job]


def files(out: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def late_at(run: Iterator[Any], kind: type) -> Iterator[Any]:
    """A run that has come to its first event of a kind, and was then not heard of."""
    for event in run:
        if isinstance(event, kind):
            return run
    raise AssertionError(f"no {kind.__name__}")


@pytest.mark.parametrize("last_seen", [StepEvent, SaveEvent])
def test_what_a_late_worker_writes_is_not_the_new_problem_s(
    begin: Begin, last_seen: type, tilts: Path, tmp_path: Path
) -> None:
    """It is stopped before its next write: of a checkpoint, or of the tile."""
    out = tmp_path / "out.zarr"
    every = 0.0 if last_seen is SaveEvent else 300.0
    old = begin(seed=1, checkpoint_every=every)
    late = late_at(TileSolver(old).run(old.plan.tiles[0]), last_seen)
    keys = {"N": 2, "K": 5, "rows_per_call": 2, "tile_rows": 4, "denoiser": "smoother:smooth"}
    new = reconstruct(tilts, out, keys, "local", overwrite=True)
    before = files(out)
    with pytest.raises(OutputReplacedError, match="belongs to another problem"):
        list(late)
    assert files(out) == before
    expected = reconstruct(tilts, tmp_path / "alone.zarr", keys, "local")
    np.testing.assert_array_equal(new.to_dask().compute(), expected.to_dask().compute())


def test_what_was_written_too_late_is_not_seen(begin: Begin, tilts: Path, tmp_path: Path) -> None:
    """A checkpoint and a receipt whose writer was stopped after it had looked."""
    out = tmp_path / "out.zarr"
    old = begin(seed=1, checkpoint_every=0.0)
    late = TileSolver(old)
    new = begin(overwrite=True, checkpoint_every=0.0)
    first, second = new.plan.tiles
    late_at(TileSolver(new).run(first), SaveEvent)
    *_, receipt = TileSolver(new).run(second)
    for record in (late.states.checkpoints.record, late.writer.record):
        record.check = lambda problem: None  # type: ignore[method-assign]
    late_at(late.run(first), SaveEvent)
    late.writer.record.add_receipt(
        {**receipt.to_dict(), "problem": old.digest, "digest": "0",
         "start": second.write_box.start, "stop": second.write_box.stop}
    )  # fmt: skip
    assert TileSolver(new).written(second) is not None
    events = list(TileSolver(new).run(first))
    assert not [event for event in events if isinstance(event, FaultEvent)]
    assert [event.iteration for event in events if isinstance(event, StepEvent)] == [1]
    keys = {"N": 2, "K": 5, "rows_per_call": 2, "tile_rows": 4, "denoiser": "smoother:smooth"}
    found = reconstruct(tilts, out, keys, "local")
    assert found.residuals == []  # both tiles had been done
    expected = reconstruct(tilts, tmp_path / "alone.zarr", keys, "local")
    np.testing.assert_array_equal(found.to_dask().compute(), expected.to_dask().compute())


class Lost(Exception):
    """What a driver is told that has lost its output to another."""


class TwoCommits:
    """Work of two units that became whole at the same moment; pool, work and history in one."""

    def __init__(self, lost_after: int) -> None:
        self.done: list[str] = []
        self.lost_after = lost_after
        self.ready: list[Any] = []

    def commits(self) -> list[tuple[str, str]]:
        return [("a", "1"), ("b", "1")]

    def commit(self, unit: str, generation: str) -> None:
        self.done.append(unit)

    def committed(self, unit: str, generation: str) -> None:
        pass

    def progress(self) -> None:
        pass

    def drops(self) -> list[Any]:
        return []

    def report(self, event: Any) -> None:
        if len(self.done) >= self.lost_after:
            raise Lost


@pytest.mark.parametrize("lost_after", [0, 1])
def test_a_driver_that_has_lost_the_output_commits_nothing_more(lost_after: int) -> None:
    """The commit before may have taken long, so whoever listens is asked before each."""
    from ddgm_dist.engine.faults import Limits
    from ddgm_dist.ray_engine.dispatcher import Dispatcher
    from ddgm_dist.ray_engine.watch import Timeouts

    all_in_one: Any = TwoCommits(lost_after)
    dispatcher = Dispatcher(
        all_in_one,
        all_in_one,
        [all_in_one],
        all_in_one,
        report=all_in_one.report,
        limits=Limits(),
        timeouts=Timeouts(),
    )
    with pytest.raises(Lost):
        dispatcher._commit(all_in_one)
    assert len(all_in_one.done) == lost_after


@pytest.mark.parametrize("state", ["memory", "store"])
def test_the_local_engine_reports_before_each_commit(
    state: str,
    make_tilts: Callable[..., Any],
    solve: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    commit = History.commit

    class Listening(LocalEngine):
        def run(self, job: Job, done_before: frozenset[str], report: Any) -> None:
            def both(event: Any) -> None:
                done.append("report")
                report(event)

            super().run(job, done_before, both)

    def told(self: History, *args: Any) -> None:
        done.append("commit")
        commit(self, *args)

    monkeypatch.setattr(History, "commit", told)
    cut = {"tile_columns": 48, "margin": 24, "state": state, "checkpoint_every": 0.0}
    solve(make_tilts(field=96, rows=7), Listening(), tile_rows=4, **cut)
    commits = [n for n, what in enumerate(done) if what == "commit"]
    assert len(commits) > 1
    assert all(done[n - 1] == "report" for n in commits)
