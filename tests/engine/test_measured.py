"""Data of the next tile are read ahead, but stretched in turn with the steps of others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ddgm_dist.engine import measured
from ddgm_dist.engine.base import Job, Report, Timer
from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.engine.tile import TileSolver
from ddgm_dist.operators.slab import SlabOperator
from ddgm_dist.reconstruct import reconstruct


class JobTakenError(Exception):
    pass


class Taken(LocalEngine):
    """Keeps the job and computes nothing."""

    job: Job

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        self.job = job
        raise JobTakenError


@pytest.fixture
def job(tilts: Path, denoisers: Path, tmp_path: Path) -> Job:
    engine = Taken()
    config = {"N": 2, "K": 5, "rows_per_call": 2, "tile_rows": 4, "denoiser": "smoother:smooth"}
    with pytest.raises(JobTakenError):
        reconstruct(tilts, tmp_path / "out.zarr", config, engine)
    return engine.job


def test_stretching_waits_for_the_step_and_reading_does_not(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    solver = TileSolver(job)
    seen: dict[str, list[bool]] = {"read": [], "stretch": []}

    def noting(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            seen[what].append(solver.computing.locked())
            return function(*args)

        return call

    monkeypatch.setattr(measured, "read_block", noting("read", measured.read_block))
    monkeypatch.setattr(SlabOperator, "prepare", noting("stretch", SlabOperator.prepare))
    solver.data.load(job.plan.tiles[0], Timer())
    assert seen == {"read": [False, False], "stretch": [True, True]}
    assert not solver.computing.locked()
