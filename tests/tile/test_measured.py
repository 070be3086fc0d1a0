"""Data of the next tile are read ahead, but stretched in turn with the steps of others."""

from collections.abc import Callable
from typing import Any

import pytest

from ddgm_dist.operators.slab.operator import SlabOperator
from ddgm_dist.tile import measured
from ddgm_dist.tile.events import Timer
from ddgm_dist.tile.job import Job
from ddgm_dist.tile.solver import TileSolver


def test_stretching_waits_for_the_step_and_reading_does_not(
    begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = begin()
    solver = TileSolver(job)
    seen: dict[str, list[bool]] = {"read": [], "stretch": []}

    def noting(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            seen[what].append(solver.computing.locked())
            return function(*args, **options)

        return call

    monkeypatch.setattr(measured, "read_rows", noting("read", measured.read_rows))
    monkeypatch.setattr(SlabOperator, "prepare", noting("stretch", SlabOperator.prepare))
    solver.data.load(job.plan.tiles[0], Timer())
    assert seen == {"read": [False, False], "stretch": [True, True]}
    assert not solver.computing.locked()
