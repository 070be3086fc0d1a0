"""Writing a series in parallel: the same store, whoever writes it and however often interrupted."""

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.acquisition import writing
from ddgm_dist.acquisition.writing import write_series
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.locate import locate
from ddgm_dist.records.lease import Lease
from ddgm_dist.records.replacement import pending
from ddgm_dist.tilts.series import (
    TiltSeries,
    TiltSeriesMeta,
    open_tilt_series,
    write_tilt_series,
)
from tests.acquisition.views import ArrayViews
from tests.mortal import WHENS, Killed, Mortal, mortal_system

META = TiltSeriesMeta((-40, 0, 33.5), pixel_size_nm=2, thickness_px=12)
SHAPE = (3, 45, 1100)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 16 rows, and of 13 at last."""
    monkeypatch.setattr(writing, "_BLOCK_BYTES", 4 * 3 * 16 * 1100)


def pixels(shape: tuple[int, int, int] = SHAPE, dtype: str = "float32") -> np.ndarray:
    """Noise with hot pixels at the ends of blocks, and pixels that were not measured."""
    data = 100 + 5 * np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    data[0, 15, 300] = data[1, 16, 40] = data[2, 30, 1023] = data[2, 32, 1024] = 9000
    if dtype == "float32":
        data[1, 3, 7], data[2, 40, 1099] = np.nan, np.nan
    return data.astype(dtype)


def write(place: Path, views: Any, **options: Any) -> TiltSeries:
    defaults = {"dtype": "float32", "overwrite": False, "recipe": "a"}
    write_series(locate(place, "out"), views, META, **{**defaults, **options})
    return open_tilt_series(place)


def contents(place: Path) -> dict[str, bytes]:
    """All files but those that hold the identity of the store; that of locks is left by leases."""
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file()
        and "__lock" not in path.name
        and path.relative_to(place).as_posix() not in ("zarr.json", "ddgm_dist/digests/survey.json")
    }


def same(series: TiltSeries, data: np.ndarray, folder: Path) -> None:
    """Compare a store with one that is written whole."""
    other = folder / "whole.zarr"
    whole = open_tilt_series(other) if other.exists() else write_tilt_series(other, data, META)
    np.testing.assert_array_equal(series.read(slice(None)), data.astype(np.float32))
    assert contents(Path(series.path)) == contents(other)
    assert series.fingerprint() == whole.fingerprint()
    assert series.meta == whole.meta
    one, two = series.record, whole.record
    assert one is not None
    assert two is not None
    assert (one.bad, one.estimates, one.tables) == (two.bad, two.estimates, two.tables)
    assert one.observations.to_dict() == two.observations.to_dict()
    assert one.observations.count == 4


def left(folder: Path) -> set[str]:
    """Names of all stores and unfinished stores in a folder."""
    return {path.name for path in folder.iterdir() if ".zarr" in path.name} - {"whole.zarr"}


# -- the same store --------------------------------------------------------------------------------


@pytest.mark.parametrize("by_view", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_and_passes_do_not_matter(tmp_path: Path, by_view: bool, workers: int) -> None:
    data, shares = pixels(), list[float]()
    views = ArrayViews(data, tmp_path / "source", by_view=by_view)
    series = write(tmp_path / "a.zarr", views, workers=workers, report=shares.append)
    same(series, data, tmp_path)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(set(shares)) >= (6 if by_view else 3)
    if by_view:  # each view once
        assert len(views.reads()) == 3
    assert left(tmp_path) == {"a.zarr"}


@pytest.mark.parametrize("dtype", ["int16", "uint8", "float16"])
@pytest.mark.parametrize("by_view", [False, True])
def test_dtypes(tmp_path: Path, dtype: str, by_view: bool) -> None:
    data = np.minimum(pixels(dtype="int16"), 255).astype(dtype)
    views = ArrayViews(data, tmp_path / "source", by_view=by_view)
    series = write(tmp_path / "a.zarr", views, dtype=dtype)
    assert series.dtype == dtype
    whole = write_tilt_series(tmp_path / "b.zarr", data, META)
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")
    assert series.fingerprint() == whole.fingerprint()


@pytest.mark.parametrize("most", [1, 4 * 3 * 8 * 1024 * 2])
def test_many_views_and_wide_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Blocks that are too large for memory are written in columns, and surveyed in views."""
    monkeypatch.setattr("ddgm_dist.acquisition.target._MOST_BYTES", most)
    monkeypatch.setattr(writing, "_BLOCK_BYTES", 1)
    data = np.concatenate([pixels((3, 20, 1100)) for _ in range(1)], axis=2)
    data = np.pad(data, ((0, 0), (0, 20), (0, 8000)), mode="reflect")
    views = ArrayViews(data, tmp_path / "source", by_view=False)
    series = write(tmp_path / "a.zarr", views)
    whole = write_tilt_series(tmp_path / "b.zarr", data, META)
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")
    assert series.record is not None
    assert whole.record is not None
    assert series.record.observations.to_dict() == whole.record.observations.to_dict()
    assert series.record.bad == whole.record.bad


def elsewhere(
    function: Callable[[Any, Any], Any], common: Any, items: Iterable[Any]
) -> Iterator[Any]:
    """Each call on another machine: all is pickled."""
    sent = pickle.dumps((function, common))
    for item in items:
        there, shared = pickle.loads(sent)
        yield pickle.loads(pickle.dumps(there(shared, pickle.loads(pickle.dumps(item)))))


@pytest.mark.parametrize("by_view", [False, True])
def test_any_runner(tmp_path: Path, by_view: bool) -> None:
    data = pixels()
    views = ArrayViews(data, tmp_path / "source", by_view=by_view)
    same(write(tmp_path / "a.zarr", views, run=elsewhere), data, tmp_path)


@pytest.mark.parametrize("by_view", [False, True])
def test_object_stores(
    tmp_path: Path, bucket: str, by_view: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ddgm_dist")
    data, url = pixels(), f"{bucket}/a.zarr"
    for overwrite in (False, True):
        views = ArrayViews(data, tmp_path / "source", by_view=by_view)
        write_series(
            locate(url, "out"), views, META, dtype="float32", overwrite=overwrite, recipe="a"
        )
        series = open_tilt_series(url)
        np.testing.assert_array_equal(series.read(slice(None)), data)
    assert series.fingerprint() == write_tilt_series(tmp_path / "b.zarr", data, META).fingerprint()
    assert "cannot be resumed" in caplog.text
    views = ArrayViews(data, tmp_path / "source", by_view=by_view, at=2, what="refuse")
    views.reads()
    with pytest.raises(InputError, match="cannot be read"):
        write_series(
            locate(f"{bucket}/b.zarr", "out"),
            views,
            META,
            dtype="float32",
            overwrite=False,
            recipe="a",
        )
    with pytest.raises(InputError, match="does not exist"):
        open_tilt_series(f"{bucket}/b.zarr")


# -- interrupted -----------------------------------------------------------------------------------


def operations(folder: Path, views: ArrayViews) -> int:
    counting = Mortal()
    with mortal_system(counting):
        write(folder / "counted.zarr", views)
    return counting.count


@pytest.mark.parametrize("by_view", [False, True])
@pytest.mark.parametrize("part", range(3))
def test_killed_anywhere_and_run_again(tmp_path: Path, by_view: bool, part: int) -> None:
    data = pixels()
    views = ArrayViews(data, tmp_path / "source", by_view=by_view)
    count, stopped = operations(tmp_path, views), 0
    assert count > 30
    for at in range(part, count, 3):
        place = tmp_path / f"{at}.zarr"
        with pytest.raises(Killed), mortal_system(Mortal(at, WHENS[at % 7 % 3])):
            write(place, views)
        try:
            whole = open_tilt_series(place)
        except InputError:
            with mortal_system(Mortal()):
                whole = write(place, views)
            stopped += 1
        same(whole, data, tmp_path)
        assert {name for name in left(tmp_path) if str(at) in name} == {place.name}
    assert stopped > 5


@pytest.mark.parametrize(("by_view", "at"), [(False, 3), (True, 2), (True, 1)])
@pytest.mark.parametrize("what", ["kill", "interrupt"])
def test_what_is_finished_is_not_done_again(
    tmp_path: Path, by_view: bool, at: int, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that is killed is named, and a run that ends early leaves what it has finished."""
    caplog.set_level("INFO", "ddgm_dist")
    data, place = pixels(), tmp_path / "a.zarr"
    views = ArrayViews(data, tmp_path / "source", by_view=by_view, at=at, what=what)
    if what == "kill":
        with pytest.raises(StorageError, match="SIGKILL, as the system does when memory is short"):
            write(place, views, workers=2)
    else:
        with pytest.raises(KeyboardInterrupt):
            write(place, views)
    assert "the same command resumes it" in caplog.text
    with pytest.raises(InputError, match="is not whole"):
        open_tilt_series(place)
    before = set(views.reads())
    views.at = -1
    shares = list[float]()
    same(write(place, views, report=shares.append), data, tmp_path)
    again = views.reads()
    assert len(again) < (3 if by_view else len(set(again) | before))
    assert left(tmp_path) == {"a.zarr"}


def test_a_killed_writer_leaves_no_process_and_is_resumed(tmp_path: Path) -> None:
    data, place = pixels(), tmp_path / "a.zarr"
    views = ArrayViews(data, tmp_path / "source", by_view=True, at=2, what="parent")
    job = tmp_path / "views.pickle"
    job.write_bytes(pickle.dumps(views))
    code = (
        f"import pickle, pathlib; from tests.acquisition import test_writing as t; "
        f"t.writing._BLOCK_BYTES = {writing._BLOCK_BYTES}; "
        f"t.write(pathlib.Path({str(place)!r}), pickle.load(open({str(job)!r}, 'rb')), workers=2)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    assert process.wait(60) == -signal.SIGKILL
    # Workers hold nothing open any more: each has the script's name in its command line.
    names = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert not [n for n in names if b"serve(" in n and str(process.pid).encode() in n]
    views.at = -1
    views.reads()
    same(write(place, views), data, tmp_path)
    assert len(views.reads()) < 3
    assert left(tmp_path) == {"a.zarr"}


def interrupted(place: Path, folder: Path, **options: Any) -> ArrayViews:
    """Views of which a part has been written."""
    views = ArrayViews(pixels(), folder, by_view=False, at=2, what="interrupt")
    with pytest.raises(KeyboardInterrupt):
        write(place, views, **options)
    views.at = -1
    views.reads()
    return views


@pytest.mark.parametrize("change", ["recipe", "dtype", "shape"])
def test_another_recipe_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    place, data, options = tmp_path / "a.zarr", pixels(), dict[str, Any]()
    interrupted(place, tmp_path / "source")
    if change == "shape":
        data = data[:, 8:]
    elif change == "dtype":
        data, options = np.nan_to_num(data).astype("float64"), {"dtype": "float64"}
    else:
        options = {"recipe": "b"}
    views = ArrayViews(data, tmp_path / "other", by_view=False)
    series = write(place, views, **options)
    np.testing.assert_array_equal(series.read(slice(None)), data)
    assert "of another source or of other options, and is deleted" in caplog.text
    assert left(tmp_path) == {"a.zarr"}


def test_what_is_replaced_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "a.zarr"
    former = write_tilt_series(place, np.ones((3, 9, 30), np.float32), META)
    views = interrupted(place, tmp_path / "source", overwrite=True)
    assert open_tilt_series(place).fingerprint() == former.fingerprint()
    with pytest.raises(InputError, match="exists already"):
        write(place, views)
    same(write(place, views, overwrite=True), pixels(), tmp_path)
    assert left(tmp_path) == {"a.zarr"}


@pytest.mark.parametrize("damage", ["receipt", "other receipt", "chunk", "recipe", "kept view"])
def test_what_is_damaged_is_written_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    place, by_view = tmp_path / "a.zarr", damage == "kept view"
    at = 2 if by_view else 2
    views = ArrayViews(pixels(), tmp_path / "source", by_view=by_view, at=at, what="interrupt")
    with pytest.raises(KeyboardInterrupt):
        write(place, views)
    views.at = -1
    work = pending(place)
    assert isinstance(work, Path)
    folder = work / "ddgm_dist/writing"
    receipts = sorted((folder / "rows").iterdir()) if not by_view else []
    if damage == "receipt":
        receipts[0].write_bytes(receipts[0].read_bytes()[:-100])
    elif damage == "other receipt":
        receipts[0].write_bytes(receipts[1].read_bytes())
    elif damage == "chunk":
        (work / "projections/c/0/1/0").unlink()
    elif damage == "recipe":
        (folder / "recipe.json").write_bytes(b"{")
    else:
        next((folder / "views/c/0").rglob("0")).unlink()
    same(write(place, views), pixels(), tmp_path)
    assert ("is damaged" in caplog.text) == ("receipt" in damage)
    assert left(tmp_path) == {"a.zarr"}


def test_a_writer_that_is_running_keeps_others_away(tmp_path: Path) -> None:
    place = tmp_path / "a.zarr"
    views = interrupted(place, tmp_path / "source")
    held = Lease(locate(place, "out"))
    held.acquire()
    try:
        with pytest.raises(InputError, match="is being written by process"):
            write(place, views)
    finally:
        held.release()
    same(write(place, views), pixels(), tmp_path)


def test_a_worker_whose_store_is_gone_writes_nothing(tmp_path: Path) -> None:
    """Another writer has taken over, and made a store of its own."""
    data, place = pixels(), tmp_path / "a.zarr"

    class Deleting(ArrayViews):
        def read(self, box: Any) -> Any:
            work = pending(place)
            assert isinstance(work, Path)
            if (recipe := work / "ddgm_dist/writing/recipe.json").exists():
                recipe.write_text(json.dumps({"recipe": "of another"}))
            return super().read(box)

    views = Deleting(data, tmp_path / "source", by_view=False)
    with pytest.raises(StorageError, match="was deleted while it was being written"):
        write(place, views)


# -- refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("by_view", [False, True])
def test_a_source_that_cannot_be_read_leaves_nothing(
    tmp_path: Path, by_view: bool, workers: int
) -> None:
    views = ArrayViews(pixels(), tmp_path / "source", by_view=by_view, at=2, what="refuse")
    with pytest.raises(InputError, match="cannot be read"):
        write(tmp_path / "a.zarr", views, workers=workers)
    assert left(tmp_path) == set()


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("int16", np.nan), ("int16", 0.5), ("int16", 40000), ("uint8", -1), ("float16", 1e6)],
)
@pytest.mark.parametrize("by_view", [False, True])
def test_no_pixel_is_changed_silently(
    tmp_path: Path, dtype: str, value: float, by_view: bool
) -> None:
    data = np.zeros(SHAPE, np.float32)
    data[1, 33, 1050] = value
    views = ArrayViews(data, tmp_path / "source", by_view=by_view)
    with pytest.raises(InputError, match=rf"\(1, 33, 1050\), which {dtype} cannot hold"):
        write(tmp_path / "a.zarr", views, dtype=dtype)
    assert left(tmp_path) == set()


def test_a_full_disk_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    size = 4 * 3 * 45 * 1100

    def usage(free: int) -> Any:
        return lambda path: type("Usage", (), {"free": free})

    monkeypatch.setattr("shutil.disk_usage", usage(size - 1))
    views = ArrayViews(pixels(), tmp_path / "source", by_view=True)
    with pytest.raises(StorageError, match=f"needs {size} bytes .* and {size - 1} are free"):
        write(tmp_path / "a.zarr", views)
    assert not views.reads()
    assert left(tmp_path) == set()
    # Less may do, after compression.
    views.by_view = False
    write(tmp_path / "a.zarr", views)
    assert f"{size} bytes before compression may not fit" in caplog.text
    monkeypatch.setattr("shutil.disk_usage", usage(2 * size))
    caplog.clear()
    views.by_view = True
    write(tmp_path / "b.zarr", views)
    assert not caplog.text
