"""The record of a series' pixels: it says what reading them all says, and what has changed is found."""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.array_io import BulkArray
from ddgm_dist.planning.config import Config
from ddgm_dist.runs.build_problem import BuiltProblem, build_problem
from ddgm_dist.runs.plan import plan
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.tilts.series import (
    TiltSeriesMeta,
    create_tilt_series,
    open_tilt_series,
    write_tilt_series,
)
from ddgm_dist.tilts.survey import survey, verify
from tests.small_runs import forget_record

ANGLES = tuple(range(-40, 41, 20))  # whole numbers, which are read as floats
META = TiltSeriesMeta(ANGLES, ((0, 0.5),) * len(ANGLES), thickness_px=6)
TILTS = len(ANGLES)


def pixels(rows: int = 20, field: int = 1100, seed: int = 0) -> np.ndarray:
    """Not projections of anything, but with contrast at all frequencies."""
    noise = np.random.default_rng(seed).standard_normal((TILTS, rows, field))
    return (1000 + 3 * np.cumsum(noise, axis=2) + noise).astype(np.float32)


def faulty(rows: int = 20, field: int = 1100) -> np.ndarray:
    """Hot and unmeasured pixels, a blank view, blank rows, an edge that was filled in."""
    data = pixels(rows, field)
    data[1, 3, 200] = data[2, 7, 40] = 1e6
    data[0, 5, 7] = np.nan
    data[3] = 0
    data[2, -2:] = 0
    data[:, :, :3] = 7
    return data


@pytest.fixture(autouse=True)
def _same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "same_record.py").write_text("def same(x, sigma):\n    return x\n")
    monkeypatch.syspath_prepend(tmp_path)


def built(path: Path, *, verify_input: bool = False, **keys: Any) -> BuiltProblem:
    config = Config(denoiser="same_record:same", impute_nonfinite=True, **keys)
    return build_problem(path, config.problem(), verify_input=verify_input)


KEYS = [
    {},
    {"boundary": "vacuum"},
    {"thickness": 9},
    {"despike": False},
    {"mean": 150.0},
    {"std": 2.0},
    {"mean": 150.0, "std": 2.0},
    {"sigma_y": 0.5},
]


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("make", [pixels, faulty, lambda: faulty(9, 8300)])
def test_the_record_says_what_all_pixels_say(
    tmp_path: Path, make: Callable[[], np.ndarray], keys: dict[str, Any]
) -> None:
    path = tmp_path / "t.zarr"
    write_tilt_series(path, make(), META)
    recorded = built(path, **keys)
    assert recorded.series.record is not None
    read = built(forget_record(path), **keys)
    assert read.series.record is None
    assert recorded.problem.to_dict() == read.problem.to_dict()
    assert recorded.findings == read.findings


@pytest.mark.parametrize("dtype", ["float64", "uint16", "int8"])
def test_pixels_of_any_kind_are_recorded_and_verified(tmp_path: Path, dtype: str) -> None:
    data = (100 * np.random.default_rng(0).random((TILTS, 12, 50))).astype(dtype)
    series = write_tilt_series(tmp_path / "t.zarr", data, META)
    verify(series)
    np.testing.assert_array_equal(series.read(slice(None)), data.astype(np.float32))
    fingerprint = series.fingerprint()
    assert survey(series).fingerprint == fingerprint
    assert open_tilt_series(forget_record(tmp_path / "t.zarr")).fingerprint() == fingerprint


def tables(path: Path) -> list[bytes]:
    folder = path / "ddgm_dist" / "digests"
    return [zarr.open_array(str(folder / n), mode="r")[:].tobytes() for n in ("pieces", "chunks")]


def test_parts_written_in_any_order_and_by_several_threads_make_the_same_record(
    tmp_path: Path,
) -> None:
    data = pixels(21, 9000)
    whole = write_tilt_series(tmp_path / "a.zarr", data, META)
    rows = [slice(16, 21), slice(0, 5), slice(5, 16)]
    columns = [slice(8192, 9000), slice(0, 1024), slice(1024, 4096), slice(4096, 8192)]
    parts = [(y, u) for u in columns for y in rows]
    with create_tilt_series(tmp_path / "b.zarr", data.shape, META) as writer:
        writer.write(slice(0, 8), 0 * data[:, :8])  # written over below

        def write(which: int) -> None:
            for y, u in parts[which::3]:
                writer.write(y, data[:, y, u], u)

        threads = [threading.Thread(target=write, args=(k,)) for k in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert tables(tmp_path / "b.zarr") == tables(tmp_path / "a.zarr")
    series = open_tilt_series(tmp_path / "b.zarr")
    assert series.fingerprint() == whole.fingerprint()
    verify(series)


def test_an_interrupted_writer_leaves_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("ddgm_dist.tilts.record.write_bytes", fails)
    with pytest.raises(StorageError, match="the disk is full"):
        write_tilt_series(tmp_path / "t.zarr", pixels(), META)
    assert not (tmp_path / "t.zarr").exists()
    monkeypatch.undo()
    verify(write_tilt_series(tmp_path / "t.zarr", pixels(), META))


def test_only_the_record_of_the_series_itself_is_believed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = tmp_path / "1.zarr", tmp_path / "2.zarr"
    write_tilt_series(one, pixels(), META)
    series = write_tilt_series(other, pixels(seed=1), META)
    expected = series.fingerprint()
    shutil.rmtree(other / "ddgm_dist")
    shutil.copytree(one / "ddgm_dist", other / "ddgm_dist")
    found = open_tilt_series(other)
    assert found.record is None
    assert found.fingerprint() == expected
    (one / "ddgm_dist/digests/survey.json").write_text('{"version": 1, "id": ')
    assert open_tilt_series(one).record is None
    assert "is damaged" in caplog.text


def change_byte(path: Path) -> str:
    array = zarr.open_group(str(path), mode="r+")["projections"]
    assert isinstance(array, zarr.Array)
    array[2, 10, 1050] = np.nextafter(np.float32(array[2, 10, 1050]), np.float32(1e9))
    return r"t\.zarr: tilt 2, rows 8 to 15, columns (1024|0) to 1099 hold other pixels than were written"


def exchange(path: Path) -> str:
    first, second = (path / f"projections/c/0/{k}/0" for k in (0, 1))
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    return r"tilt 0, 1, 2, \.\.\., rows 0 to 7, columns 0 to (1023|1099) hold other"


def lose(path: Path) -> str:
    (path / "projections/c/0/1/1").unlink()
    return r"chunk \(0, 1, 1\) of .* is missing: tilts 0 to 4, rows 8 to 15, columns 1024"


CHANGES = [change_byte, exchange, lose]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_pixels_are_found_when_they_are_read(
    tmp_path: Path, change: Callable[[Path], str]
) -> None:
    write_tilt_series(tmp_path / "t.zarr", pixels(), META)
    message = change(tmp_path / "t.zarr")
    series = open_tilt_series(tmp_path / "t.zarr")
    for read in (
        lambda: series.read(slice(7, 9)),
        lambda: series.read(slice(7, 9), tilts=slice(0, 1)),
        lambda: series.read_lines(slice(7, 9), [0, 500, 900, 20, 30], 200),
        lambda: verify(series),
        lambda: built(tmp_path / "t.zarr", verify_input=True),
    ):
        with pytest.raises(StorageError, match=message) as caught:
            read()
        assert "\n" not in str(caught.value)
        assert "good copy" in str(caught.value)
    # What has not changed can be read, and its first read compares it.
    assert np.isfinite(series.read(slice(16, 20))).all()


def test_another_array_is_refused_by_the_plan(tmp_path: Path) -> None:
    path = tmp_path / "t.zarr"
    write_tilt_series(path, pixels(), META)
    zarr.open_array(str(path / "projections"), mode="r+").resize((TILTS, 16, 1100))
    with pytest.raises(InputError, match=r"float32 \(5, 16, 1100\), but was written as float32"):
        built(path)


def test_other_metadata_make_another_problem(tmp_path: Path) -> None:
    """As without a record: they may be corrected, and a run that has begun is not gone on with."""
    path = tmp_path / "t.zarr"
    write_tilt_series(path, pixels(), META)
    before = built(path).problem
    group = zarr.open_group(str(path))
    attribute: dict[str, Any] = dict(group.attrs["ddgm_dist"])  # type: ignore[call-overload]
    group.attrs["ddgm_dist"] = {**attribute, "angles_deg": [-41.0, *ANGLES[1:]]}
    changed = built(path)
    assert changed.series.record is not None
    assert changed.problem.data_digest != before.data_digest
    assert changed.problem.to_dict() == built(forget_record(path)).problem.to_dict()


def test_damaged_digests_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "t.zarr"
    write_tilt_series(path, pixels(), META)
    table = zarr.open_array(str(path / "ddgm_dist/digests/pieces"), mode="r+")
    table[0, 0, 0] = int(table[0, 0, 0]) ^ 1
    with pytest.raises(StorageError, match="delete this folder"):
        verify(open_tilt_series(path))


def test_a_run_keeps_what_it_has_and_goes_on_with_a_good_copy(tmp_path: Path) -> None:
    path, copy, out = tmp_path / "t.zarr", tmp_path / "copy.zarr", tmp_path / "v.zarr"
    write_tilt_series(path, pixels(24, 60), META)
    shutil.copytree(path, copy)
    keys = {"denoiser": "same_record:same", "N": 2, "K": 2, "tile_rows": 8, "rows_per_call": 4}
    expected = reconstruct(path, tmp_path / "whole.zarr", keys, "local").to_dask().compute()
    array = zarr.open_group(str(path), mode="r+")["projections"]
    assert isinstance(array, zarr.Array)
    array[1, 20, 30] = 0
    with pytest.raises(StorageError, match="tilt 1, rows 16 to 23, columns 0 to 59"):
        reconstruct(path, out, keys, "local")
    receipts = list((out / "ddgm_dist").glob("receipts/*/*.json"))
    assert len(receipts) == 2
    stamps = [receipt.stat().st_mtime_ns for receipt in receipts]
    shutil.rmtree(path)
    shutil.copytree(copy, path)
    volume = reconstruct(path, out, keys, "local").to_dask().compute()
    np.testing.assert_array_equal(volume, expected)
    assert [receipt.stat().st_mtime_ns for receipt in receipts] == stamps


class Reads:
    """Counts the bytes of what is read of arrays, as they are in memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes, self.places = 0, set[str]()
        result = BulkArray._result

        def counted(array: BulkArray, *args: Any) -> Any:
            block = result(array, *args)
            self.bytes += block.nbytes
            self.places.add(Path(str(array.path)).name)
            return block

        monkeypatch.setattr(BulkArray, "_result", counted)


def test_a_plan_and_a_resumed_run_read_next_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most a hundredth of the series; its record has the fit of the quick verdict, too."""
    path, out = tmp_path / "t.zarr", tmp_path / "v.zarr"
    data = pixels(256, 1500)
    write_tilt_series(path, data, META)
    keys = {"denoiser": "same_record:same", "N": 1, "K": 1}
    reconstruct(path, out, keys, "local")
    record = (path / "ddgm_dist/digests/survey.json").stat().st_size
    assert record + sum(len(table) for table in tables(path)) < data.nbytes / 100
    reads = Reads(monkeypatch)
    assert plan(path, keys).expected_fit is not None
    reconstruct(path, out, keys, "local")
    assert reads.bytes + 2 * record <= data.nbytes / 100
    assert "projections" not in reads.places
    plan(forget_record(path), keys)
    assert reads.bytes > data.nbytes


def test_a_tile_s_columns_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing takes no more reading than the chunks that hold what is asked for."""
    data = pixels(16, 9000)
    write_tilt_series(tmp_path / "t.zarr", data, META)
    reads = Reads(monkeypatch)
    series = open_tilt_series(tmp_path / "t.zarr")
    first = [2050, 2060, 2100, 2200, 2300]
    read = series.read_lines(slice(8, 16), first, 700)
    expected = np.stack([data[t, 8:16, a : a + 700] for t, a in enumerate(first)])
    np.testing.assert_array_equal(read, expected)
    assert reads.bytes <= TILTS * 8 * 1024 * 4 + 2048 * 32


def test_what_is_said_of_the_pixels_is_small(tmp_path: Path) -> None:
    data = pixels(64, 400)
    data[np.random.default_rng(1).random(data.shape) < 0.005] = 1e6
    write_tilt_series(tmp_path / "t.zarr", data, META)
    file = tmp_path / "t.zarr/ddgm_dist/digests/survey.json"
    assert json.loads(file.read_text())["observations"]["count"] > 500
    assert file.stat().st_size < data.nbytes / 100


def digests(path: Path) -> Path:
    return path / "ddgm_dist/digests"


@pytest.mark.parametrize("what", ["mean", "fingerprint", "table", "missing"])
def test_a_record_that_is_not_what_was_written_is_not_believed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """Estimates, fingerprint and tables are sealed by the store's attribute."""
    path, other = tmp_path / "t.zarr", tmp_path / "o.zarr"
    write_tilt_series(path, pixels(), META)
    problem = built(path).problem
    survey = digests(path) / "survey.json"
    if what == "missing":
        shutil.rmtree(digests(path))
    elif what == "table":  # the digests of another series, with its pixels
        write_tilt_series(other, pixels(seed=1), META)
        for name in ("ddgm_dist/digests/chunks", "projections"):
            shutil.rmtree(path / name)
            shutil.copytree(other / name, path / name)
    else:
        values = json.loads(survey.read_text())
        if what == "mean":
            for found in values["estimates"].values():
                found["intensity"]["mean"] *= 10
        else:
            values["fingerprint"] = "0" * 64
        survey.write_text(json.dumps(values))
    caplog.clear()
    if what == "table":
        with pytest.raises(StorageError, match="chunks are not those of the record"):
            open_tilt_series(path).read(slice(0, 8))
        return
    assert built(path).problem == problem  # all pixels have been read for it
    assert "the whole series is read" in caplog.text
    with pytest.raises(StorageError, match="cannot be verified"):
        built(path, verify_input=True)


def test_verifying_what_has_no_digests_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.zarr"
    write_tilt_series(path, pixels(), META)
    forget_record(path)
    built(path, verify_input=True)
    assert "written without digests" in caplog.text
