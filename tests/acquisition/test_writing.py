"""Writing a series in parallel: the same store, whoever writes it and however often interrupted."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.acquisition import writing
from ddgm_dist.acquisition.writing import write_series
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.claim import is_empty_folder
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.object_store import list_keys
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
# The start of the last block, and of the last view.
AT = {False: (0, 32, 0), True: (2, 0, 0)}


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 16 rows, and of 13 at last."""
    monkeypatch.setattr(writing, "_BLOCK_BYTES", 4 * 3 * 16 * 1100)


def pixels(shape: tuple[int, int, int] = SHAPE, dtype: str = "float32") -> np.ndarray:
    """Noise with hot pixels at the ends of blocks, and pixels that were not measured."""
    data = 100 + 5 * np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    data[0, 15, 300] = data[1, 16, 40] = data[2, 30, 1023] = data[2, 32, 1024] = 9000
    # Lines along y, which are no hot pixels for those who see beyond the ends of blocks.
    data[0, 14:23, 700] = data[0, 9:18, 800] = 9000
    if dtype == "float32":
        data[1, 3, 7], data[2, 39, 1099] = np.nan, np.nan
    return data.astype(dtype)


def write(place: Path, views: Any, **options: Any) -> TiltSeries:
    defaults = {"dtype": "float32", "overwrite": False, "recipe": "a"}
    write_series(locate(place, "out"), views, META, **{**defaults, **options})
    return open_tilt_series(place)


# Left by a writer that was killed: temporary files, and small files that it deletes at last.
LEFT = re.compile(r".*\.(partial|tmp)|ddgm_dist/(next|writing/recipe)\.json")


def contents(place: Path, *, killed: bool = False) -> dict[str, bytes]:
    """All files but locks and those that hold the identity of the store."""
    found = {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file() and "lock" not in path.name
    }
    ours = {"zarr.json", "ddgm_dist/digests/survey.json"}
    assert ours <= set(found)
    return {
        name: data
        for name, data in found.items()
        if name not in ours and not (killed and LEFT.fullmatch(name))
    }


def same(series: TiltSeries, data: np.ndarray, folder: Path, *, killed: bool = False) -> None:
    """Compare a store with one that is written whole."""
    other = folder / "whole.zarr"
    whole = open_tilt_series(other) if other.exists() else write_tilt_series(other, data, META)
    np.testing.assert_array_equal(series.read(slice(None)), data.astype(np.float32))
    assert contents(Path(series.path), killed=killed) == contents(other)
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
    monkeypatch.setattr("ddgm_dist.acquisition.store.blocks._MOST_BYTES", most)
    monkeypatch.setattr(writing, "_BLOCK_BYTES", 1)
    data = pixels((3, 40, 9100))
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
    data, url = pixels(), f"{bucket}/{by_view}.zarr"
    for overwrite in (False, True):
        views = ArrayViews(data, tmp_path / "source", by_view=by_view)
        write_series(
            locate(url, "out"), views, META, dtype="float32", overwrite=overwrite, recipe="a"
        )
        series = open_tilt_series(url)
        np.testing.assert_array_equal(series.read(slice(None)), data)
        assert not [key for key in list_keys(locate(url, "out")) if "writing" in key]
    assert series.fingerprint() == write_tilt_series(tmp_path / "b.zarr", data, META).fingerprint()
    assert "cannot be resumed" in caplog.text
    views = ArrayViews(data, tmp_path / "source", by_view=by_view, at=AT[by_view], what="refuse")
    views.reads()
    with pytest.raises(InputError, match="cannot be read"):
        write_series(
            locate(f"{bucket}/{by_view}-b.zarr", "out"),
            views,
            META,
            dtype="float32",
            overwrite=False,
            recipe="a",
        )
    with pytest.raises(InputError, match="does not exist"):
        open_tilt_series(f"{bucket}/{by_view}-b.zarr")


# -- interrupted -----------------------------------------------------------------------------------


def operations(folder: Path, views: ArrayViews) -> int:
    counting = Mortal()
    with mortal_system(counting):
        write(folder / "counted.zarr", views)
    return counting.count


@pytest.mark.parametrize("by_view", [False, True])
@pytest.mark.parametrize("first", [0, 3])
def test_killed_anywhere_and_run_again(tmp_path: Path, by_view: bool, first: int) -> None:
    data = pixels()
    views = ArrayViews(data, tmp_path / "source", by_view=by_view)
    count, stopped = operations(tmp_path, views), 0
    assert count > 30
    for at in range(first, count, 6):
        place = tmp_path / f"at{at}.zarr"
        with pytest.raises(Killed), mortal_system(Mortal(at, WHENS[at % 3])):
            write(place, views)
        try:
            whole = open_tilt_series(place)
        except InputError:
            if is_empty_folder(place):  # killed between a folder and the lease in it
                place.rmdir()
            with mortal_system(Mortal()):
                whole = write(place, views)
            stopped += 1
            assert {name for name in left(tmp_path) if f"at{at}.zarr" in name} == {place.name}
        same(whole, data, tmp_path, killed=True)
    assert stopped > 5


@pytest.mark.parametrize("by_view", [False, True])
@pytest.mark.parametrize("what", ["kill", "interrupt"])
def test_what_is_finished_is_not_done_again(
    tmp_path: Path, by_view: bool, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that is killed is named, and a run that ends early leaves what it has finished."""
    caplog.set_level("INFO", "ddgm_dist")
    data, place = pixels(), tmp_path / "a.zarr"
    views = ArrayViews(data, tmp_path / "source", by_view=by_view, at=AT[by_view], what=what)
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
    views.at = None
    shares = list[float]()
    same(write(place, views, report=shares.append), data, tmp_path)
    again = views.reads()
    assert len(again) < (3 if by_view else len(set(again) | before))
    assert left(tmp_path) == {"a.zarr"}


def workers_of(pid: int) -> list[bytes]:
    """Command lines of the workers of a process."""
    found = list[bytes]()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes())
    return [name for name in found if b"serve(" in name and f", {pid})".encode() in name]


def test_a_killed_writer_leaves_no_process_and_is_resumed(tmp_path: Path) -> None:
    data, place = pixels(), tmp_path / "a.zarr"
    views = ArrayViews(data, tmp_path / "source", by_view=True, at=(2, 0, 0), what="parent")
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
    # Workers die soon after; each has the number of its parent in its command line.
    for _ in range(300):
        if not workers_of(process.pid):
            break
        time.sleep(0.1)
    assert not workers_of(process.pid)
    views.at = None
    views.reads()
    same(write(place, views), data, tmp_path)
    assert len(views.reads()) < 3
    assert left(tmp_path) == {"a.zarr"}


def interrupted(place: Path, folder: Path, **options: Any) -> ArrayViews:
    """Views of which a part has been written."""
    views = ArrayViews(pixels(), folder, by_view=False, at=(0, 32, 0), what="interrupt")
    with pytest.raises(KeyboardInterrupt):
        write(place, views, **options)
    views.at = None
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
    views = ArrayViews(
        pixels(), tmp_path / "source", by_view=by_view, at=AT[by_view], what="interrupt"
    )
    with pytest.raises(KeyboardInterrupt):
        write(place, views)
    views.at = None
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
        (folder / "views/c/0/0/0").unlink()
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
    views = ArrayViews(
        pixels(), tmp_path / "source", by_view=by_view, at=AT[by_view], what="refuse"
    )
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
