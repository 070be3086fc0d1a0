"""Reading all pixels in parts: the same result whoever reads them, in whatever order they end."""

import copyreg
import random
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from ddgm_dist.cli.entry import main
from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.runs.plan import plan
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.tile.events import Report
from ddgm_dist.tile.job import Job
from ddgm_dist.tilts.series import TiltSeries, open_tilt_series, write_tilt_series
from ddgm_dist.tilts.survey import Survey, survey
from tests.tilts.test_record import ANGLES, META, Reads, faulty, pixels


@pytest.fixture(autouse=True)
def _same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "same_record.py").write_text("def same(x, sigma):\n    return x\n")
    monkeypatch.syspath_prepend(tmp_path)


SMALL = {"survey._SMALLER": 2**14, "strips._PART_PIXELS": 1000}  # parts of few rows


def foreign(path: Path, data: np.ndarray, chunks: tuple[int, int, int]) -> TiltSeries:
    """A series as others write it."""
    group = zarr.create_group(str(path))
    array = group.create_array(
        "projections", shape=data.shape, chunks=chunks, dtype=data.dtype, fill_value=-1
    )
    array[:] = data
    group.attrs["ddgm_dist"] = {
        "kind": "tilt-series",
        "version": 1,
        "angles_deg": list(ANGLES),
        "thickness_px": 6,
    }
    return open_tilt_series(path)


def shuffled(
    function: Callable[[Any, Any], Any], common: Any, items: Iterable[Any]
) -> Iterator[Any]:
    """Calls that end in any order, as those of several workers do."""
    asked = list(items)
    order = random.Random(0).sample(range(len(asked)), len(asked))
    with ThreadPoolExecutor(1) as pool:
        calls = {k: pool.submit(function, common, asked[k]) for k in order}
        for k in range(len(asked)):
            yield calls[k].result()


def same(one: Survey, other: Survey) -> None:
    assert one.fingerprint == other.fingerprint
    assert one.bad == other.bad
    assert one.observations.to_dict() == other.observations.to_dict()
    np.testing.assert_array_equal(one.pieces, other.pieces)


def crowded(rows: int, field: int) -> np.ndarray:
    """More pixels stand out than faults could, all over the series."""
    data = faulty(rows, field)
    data[np.random.default_rng(1).random(data.shape) < 0.0005] = 1e6
    return data


@pytest.mark.parametrize("chunks", [(5, 8, 1024), (1, 64, 400), (2, 16, 9000)])
@pytest.mark.parametrize("make", [faulty, crowded])
def test_parts_and_workers_do_not_matter(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[int, int], np.ndarray],
    chunks: tuple[int, int, int],
) -> None:
    monkeypatch.setattr("ddgm_dist.pixels.hot_scan._MOST_HOT", 500)
    series = foreign(tmp_path / "t.zarr", make(200, 9000), chunks)
    for name, value in SMALL.items():
        monkeypatch.setattr(f"ddgm_dist.tilts.{name}", value)
    found = []
    for threads in (1, 4):
        monkeypatch.setattr("ddgm_dist.tilts.survey.threads", lambda n=threads: n)
        found.append(survey(series))
    found.append(survey(series, run=shuffled))
    for each in found[1:]:
        same(found[0], each)
    assert found[0].observations.crowded == (make is crowded)
    assert found[0].observations.count >= 2
    if make is faulty:
        monkeypatch.undo()
        same(found[0], survey(series))  # in larger parts
        seen = found[0].observations
        assert seen.blank == (3,)
        assert {(e.tilt, e.side, e.width) for e in seen.edges} == {(t, 0, 3) for t in (0, 1, 2, 4)}


def test_what_a_worker_cannot_read_the_driver_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    series = foreign(tmp_path / "t.zarr", faulty(64, 300), (5, 8, 300))
    for name, value in SMALL.items():
        monkeypatch.setattr(f"ddgm_dist.tilts.{name}", value)
    expected = survey(series)

    def away(*_: Any) -> Any:
        raise StorageError("no such folder here")

    with monkeypatch.context() as patch:
        patch.setitem(copyreg.dispatch_table, TiltSeries, lambda _: (away, ()))
        same(survey(series, run=shuffled), expected)
    assert caplog.text.count("no such folder here; it is read here") == 1
    (tmp_path / "t.zarr/projections/c/0/3/0").unlink()
    with pytest.raises(StorageError, match="is missing"):
        survey(series, run=shuffled)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_tasks_of_ray_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddgm_dist.ray_engine.parallel_map import open_scheduler

    series = foreign(tmp_path / "t.zarr", faulty(200, 9000), (5, 8, 1024))
    for name, value in SMALL.items():
        monkeypatch.setattr(f"ddgm_dist.tilts.{name}", value)
    shares = list[float]()
    with open_scheduler("ray") as run:
        found = survey(series, run=run, report=shares.append)
    same(found, survey(series))
    assert len(shares) > 4
    assert shares == sorted(shares)
    assert shares[-1] == 1


RUN = {"denoiser": "same_record:same", "N": 1, "K": 1, "tile_rows": 8, "rows_per_call": 4}


@pytest.mark.parametrize("chunks", [(5, 8, 1024), (1, 24, 60)])
def test_a_run_keeps_the_record_of_a_series_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunks: tuple[int, int, int]
) -> None:
    """What was read once is not read again, and a tile refuses pixels that have changed."""
    path, out = tmp_path / "t.zarr", tmp_path / "v.zarr"
    foreign(path, pixels(24, 60), chunks)
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    expected = reconstruct(path, tmp_path / "whole.zarr", RUN, "local").to_dask().compute()
    array = zarr.open_array(str(path / "projections"), mode="r+")
    good = float(array[1, 20, 30])

    class Stopped(LocalEngine):
        def run(self, job: Job, done: frozenset[str], report: Report) -> None:
            array[1, 20, 30] = np.nextafter(np.float32(good), np.float32(1e9))
            super().run(job, done, report)

    for engine in (Stopped(), "local"):
        reads = Reads(monkeypatch)
        with pytest.raises(StorageError, match=r"tilt 1, rows 16 to 23.* when the run began"):
            reconstruct(path, out, RUN, engine)
        assert len(list(out.glob("ddgm_dist/receipts/*/*.json"))) == 2
    # The last tile's piece was read, and once more to say which tilt it is.
    assert reads.bytes < pixels(24, 60).nbytes
    array[1, 20, 30] = good
    volume = reconstruct(path, out, RUN, "local").to_dask().compute()
    np.testing.assert_array_equal(volume, expected)
    (changed,) = (p for p, t in before.items() if p.is_file() and p.stat().st_mtime_ns != t)
    assert "projections" in changed.parts  # nothing is written into other people's store


def test_another_series_at_the_same_place_is_read_again(tmp_path: Path) -> None:
    path, out = tmp_path / "t.zarr", tmp_path / "v.zarr"
    foreign(path, pixels(24, 60), (5, 8, 60))
    reconstruct(path, out, RUN, "local")
    shutil.rmtree(path)
    foreign(path, pixels(24, 60, seed=1), (5, 8, 60))
    with pytest.raises(InputError, match="the pixels of the tilt series"):
        reconstruct(path, out, RUN, "local")
    reconstruct(path, out, RUN, "local", overwrite=True)
    reconstruct(path, out, RUN, "local")


def test_a_resumed_run_estimates_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = tmp_path / "t.zarr", tmp_path / "v.zarr"
    write_tilt_series(path, pixels(24, 60), META)
    keys = {**RUN, "thickness": 9, "sigma_y": 0.5}
    reconstruct(path, out, keys, "local")
    reads = Reads(monkeypatch)
    reconstruct(path, out, keys, "local")
    assert "projections" not in reads.places
    with pytest.raises(InputError, match="sigma_y"):
        reconstruct(path, out, {**keys, "sigma_y": 0.6}, "local")


def test_how_far_a_series_is_read_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign(tmp_path / "t.zarr", pixels(64, 300), (5, 8, 300))
    for name, value in SMALL.items():
        monkeypatch.setattr(f"ddgm_dist.tilts.{name}", value)
    monkeypatch.setattr("ddgm_dist.tilts.progress._QUICK", 0.0)
    monkeypatch.chdir(tmp_path)
    for command in (["plan", "t.zarr"], ["reconstruct", "t.zarr", "v.zarr", "--engine", "local"]):
        assert main([*command, "--set", "denoiser=same_record:same", "--set", "N=1"]) == 0
        shown = capsys.readouterr().err
        assert re.search(r"reading t\.zarr \(written without digests\): +\d+ %", shown), shown
    assert plan(tmp_path / "t.zarr", RUN) is not None
    assert capsys.readouterr().err == ""
