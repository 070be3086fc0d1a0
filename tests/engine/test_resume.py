"""A run that was interrupted, wherever, ends as one that was not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.records.run_record import COMPLETE, RUNNING, RunRecord
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.runs.result import Result
from ddgm_dist.tile.events import Event, FaultEvent, Receipt, Report, SaveEvent, StepEvent
from ddgm_dist.tile.job import Job

Solve = Callable[..., tuple[np.ndarray, Result]]
MakeTilts = Callable[..., Path]

COUPLED = {"tile_columns": 48, "margin": 24}
KEYS: dict[str, Any] = {"N": 4, "K": 5, "rows_per_call": 2, "denoiser": "smoother:smooth"}
CUTS = pytest.mark.parametrize(
    "cut", [{}, COUPLED, {**COUPLED, "state": "store"}], ids=["free", "memory", "store"]
)


class InterruptedError(Exception):
    pass


class Interrupted(LocalEngine):
    """Stops after so many events; keeps those it has seen."""

    def __init__(self, after: int) -> None:
        self.after, self.seen = after, list[Event]()

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        def listen(event: Event) -> None:
            self.seen.append(event)
            report(event)
            if len(self.seen) == self.after:
                raise InterruptedError

        super().run(job, done, listen)

    def count(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in self.seen)


@pytest.fixture
def tilts(make_tilts: MakeTilts) -> Path:
    return make_tilts(field=144, rows=6)


@CUTS
@pytest.mark.usefixtures("denoisers")
def test_resumed_is_uninterrupted(
    tilts: Path, solve: Solve, tmp_path: Path, cut: dict[str, Any]
) -> None:
    """At any event; with a checkpoint after each iteration at most one is done again."""
    keys = {**KEYS, **cut, "tile_rows": 4, "checkpoint_every": 0}
    expected, _ = solve(tilts, **{**KEYS, **cut, "state": "auto"})
    whole = Interrupted(-1)
    reconstruct(tilts, tmp_path / "whole.zarr", keys, whole)
    tiles = whole.count(Receipt)
    per_group = 3 if cut else 1
    # Of the many events of coupled tiles one in five, others where the state is stored.
    first_event, step = (3 if "state" in cut else 1, 5) if cut else (1, 1)
    for after in sorted({*range(first_event, len(whole.seen), step), len(whole.seen)}):
        out = tmp_path / f"{after}.zarr"
        first, second = Interrupted(after), Interrupted(-1)
        with pytest.raises(InterruptedError):
            reconstruct(tilts, out, keys, first)
        result = reconstruct(tilts, out, keys, second)
        np.testing.assert_array_equal(result.to_dask().compute(), expected)
        again = first.count(StepEvent) + second.count(StepEvent) - 4 * tiles
        # What was in flight, of a group that goes from checkpoint to checkpoint in step.
        assert 0 <= again <= 2 * per_group
        assert not (out / "ddgm_dist/commits").exists()


@CUTS
@pytest.mark.usefixtures("denoisers")
def test_other_cuts_along_y_go_on_from_the_same_checkpoint(
    tilts: Path, solve: Solve, tmp_path: Path, cut: dict[str, Any]
) -> None:
    expected, _ = solve(tilts, **{**KEYS, **cut, "state": "auto"})
    keys = {**KEYS, **cut, "checkpoint_every": 0}
    per_group = 3 if cut else 1
    # All of a group (or tile) of six rows is three iterations on.
    steps = 3 * per_group
    first, second = Interrupted(2 * steps + per_group), Interrupted(-1)
    with pytest.raises(InterruptedError):
        reconstruct(tilts, tmp_path / "out.zarr", {**keys, "tile_rows": 6}, first)
    assert first.count(SaveEvent) >= 2 * per_group
    result = reconstruct(tilts, tmp_path / "out.zarr", {**keys, "tile_rows": 2}, second)
    np.testing.assert_array_equal(result.to_dask().compute(), expected)
    assert second.count(StepEvent) <= 2 * 3 * per_group  # two iterations of three cuts at most
    assert second.count(Receipt) == 3 * per_group


@CUTS
@pytest.mark.usefixtures("denoisers")
@pytest.mark.parametrize("generations", [1, 2])
def test_a_damaged_checkpoint_costs_one_generation(
    tilts: Path, solve: Solve, tmp_path: Path, cut: dict[str, Any], generations: int
) -> None:
    expected, _ = solve(tilts, **{**KEYS, **cut, "state": "auto"})
    keys = {**KEYS, **cut, "checkpoint_every": 0, "tile_rows": 6}
    per_group = 3 if cut else 1
    out = tmp_path / "out.zarr"
    first, second = Interrupted(2 * 3 * per_group + 1), Interrupted(-1)
    with pytest.raises(InterruptedError):
        reconstruct(tilts, out, keys, first)
    (commit,) = out.glob("ddgm_dist/commits/*/*.json")
    (generated,) = out.glob("ddgm_dist/generations/*")
    newest = json.loads(commit.read_text())["generations"][:generations]
    for generation in newest:
        chunk = generated / f"{generation['iteration']}/c/0/0/1/0"
        data = bytearray(chunk.read_bytes())
        data[100] ^= 4
        chunk.write_bytes(data)
    result = reconstruct(tilts, out, keys, second)
    np.testing.assert_array_equal(result.to_dask().compute(), expected)
    faults = [e for e in second.seen if isinstance(e, FaultEvent)]
    assert [f.kind for f in faults] == ["checkpoint-damaged"] * generations
    assert "chunk 0/1" in faults[0].detail


@pytest.mark.usefixtures("denoisers")
def test_streamed_is_resident(tilts: Path, solve: Solve) -> None:
    resident, _ = solve(tilts, **KEYS, **COUPLED, state="memory")
    streamed, _ = solve(tilts, **KEYS, **COUPLED, state="store")
    np.testing.assert_array_equal(streamed, resident)


@pytest.mark.usefixtures("denoisers")
def test_a_finished_tile_whose_shard_is_lost_is_done_again(
    tilts: Path, solve: Solve, tmp_path: Path
) -> None:
    expected, _ = solve(tilts, **KEYS)
    out = tmp_path / "out.zarr"
    reconstruct(tilts, out, KEYS, "local")
    (out / "0/c/0/1/0").unlink()
    states: list[Any] = []

    class Watched(Interrupted):
        def run(self, job: Job, done: frozenset[str], report: Report) -> None:
            states.append(RunRecord(out).read_state())
            super().run(job, done, report)

    engine = Watched(-1)
    result = reconstruct(tilts, out, KEYS, engine)
    assert engine.count(Receipt) == 1
    assert [state["state"] for state in states] == [RUNNING]  # as long as it is not whole
    state = RunRecord(out).read_state()
    assert state is not None
    assert state["state"] == COMPLETE
    np.testing.assert_array_equal(result.to_dask().compute(), expected)


def test_where_a_volume_is_from_is_told_even_if_the_run_died_at_the_end(
    tilts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    reconstruct(tilts, out, KEYS, "local")
    record = RunRecord(out)
    known = record.read_json("provenance")
    record.delete("provenance")
    reconstruct(tilts, out, KEYS, "local")
    assert set(record.read_json("provenance")) == set(known)
