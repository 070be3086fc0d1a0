"""Uncoupled tiles that are requeued are marked as retried, and are not written twice."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ddgm_dist.core.box import Box
from ddgm_dist.engine.work import Task, TileWork
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.tile.events import Receipt
from ddgm_dist.tile.job import Job
from ddgm_dist.tile.solver import TileSolver


@pytest.fixture
def written(begin: Callable[..., Job]) -> tuple[Job, Receipt]:
    """A job whose first tile is written, and its receipt."""
    job = begin()
    *_, receipt = TileSolver(job).run(job.plan.tiles[0])
    assert isinstance(receipt, Receipt)
    return job, receipt


def test_a_requeued_call_is_marked() -> None:
    boxes = [Box((0, y, 0), (4, y + 2, 8)) for y in (0, 2)]
    tiles = [Tile(f"y{i}", box, box, i) for i, box in enumerate(boxes)]
    history: Any = SimpleNamespace(newest=lambda tiles: None)
    work = TileWork(tiles, history)

    def take(worker: str) -> Task:
        found = work.next(worker, ahead=False)
        assert found is not None
        return found[0]

    first, second = take("a"), take("b")
    assert not first.retried
    assert not second.retried
    work.requeue(first)
    assert take("b") == dataclasses.replace(first, retried=True)


def test_a_written_tile_is_found_with_its_receipt(written: tuple[Job, Receipt]) -> None:
    job, receipt = written
    solver = TileSolver(job)
    first, *others = job.plan.tiles
    assert others
    found = solver.written(first)
    assert found is not None
    assert found.to_dict() == receipt.to_dict()
    assert [solver.written(tile) for tile in others] == [None] * len(others)
    other = TileSolver(dataclasses.replace(job, digest="f" * 64))
    assert other.written(first) is None


def test_a_receipt_without_its_shard_counts_for_nothing(written: tuple[Job, Receipt]) -> None:
    job, _ = written
    shutil.rmtree(Path(job.out) / "0" / "c")
    assert TileSolver(job).written(job.plan.tiles[0]) is None


def test_a_receipt_of_another_cut_counts_for_nothing(written: tuple[Job, Receipt]) -> None:
    job, _ = written
    first = job.plan.tiles[0]
    box = first.write_box
    (z, y, x), start = box.stop, box.start
    half = dataclasses.replace(first, write_box=Box(start, (z, y - 2, x)))
    assert half.name == first.name
    assert TileSolver(job).written(half) is None
