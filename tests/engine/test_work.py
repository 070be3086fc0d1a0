"""Uncoupled tiles that come back are known to have been asked for, and are not done twice."""

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ddgm_dist.core.box import Box
from ddgm_dist.engine.base import Event, Job, Receipt, Report
from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.engine.tile import TileSolver
from ddgm_dist.engine.work import Task, TileWork
from ddgm_dist.plan.tiling import Tile
from ddgm_dist.reconstruct import reconstruct


class StoppedError(Exception):
    pass


class Stopped(LocalEngine):
    """Ends with the first receipt, and keeps both it and the job."""

    job: Job
    receipt: Receipt

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        self.job = job

        def listen(event: Event) -> None:
            if isinstance(event, Receipt):
                self.receipt = event
                raise StoppedError

        super().run(job, done, listen)


@pytest.fixture
def stopped(tilts: Path, denoisers: Path, tmp_path: Path) -> Stopped:
    engine = Stopped()
    config = {"N": 2, "K": 5, "rows_per_call": 2, "tile_rows": 4, "denoiser": "smoother:smooth"}
    with pytest.raises(StoppedError):
        reconstruct(tilts, tmp_path / "out.zarr", config, engine)
    return engine


def test_a_call_that_comes_back_is_marked() -> None:
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
    work.again(first)
    assert take("b") == dataclasses.replace(first, retried=True)


def test_a_written_tile_is_found_with_its_receipt(stopped: Stopped) -> None:
    job, solver = stopped.job, TileSolver(stopped.job)
    first, *others = job.plan.tiles
    assert others
    found = solver.written(first)
    assert found is not None
    assert found.to_dict() == stopped.receipt.to_dict()
    assert [solver.written(tile) for tile in others] == [None] * len(others)
    other = TileSolver(dataclasses.replace(job, digest="another problem's"))
    assert other.written(first) is None


def test_a_receipt_without_its_shard_counts_for_nothing(stopped: Stopped) -> None:
    shutil.rmtree(Path(stopped.job.out) / "0" / "c")
    assert TileSolver(stopped.job).written(stopped.job.plan.tiles[0]) is None


def test_a_receipt_of_another_cut_counts_for_nothing(stopped: Stopped) -> None:
    first = stopped.job.plan.tiles[0]
    box = first.write_box
    (z, y, x), start = box.stop, box.start
    half = dataclasses.replace(first, write_box=Box(start, (z, y - 2, x)))
    assert half.name == first.name
    assert TileSolver(stopped.job).written(half) is None
