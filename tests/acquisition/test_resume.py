"""Ingest, run again: what is resumed, what begins anew, and what is refused before it begins."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts
import zarr

from ddgm_dist.acquisition import recipe, steps, writing
from ddgm_dist.acquisition.ingest import ingest
from ddgm_dist.acquisition.source_state import source_states
from ddgm_dist.acquisition.store.target import Target
from ddgm_dist.errors import InputError
from ddgm_dist.paths.locate import locate
from ddgm_dist.readers.zarr.volume import ZarrVolume
from ddgm_dist.tilts.series import open_tilt_series

ANGLES = (-50.0, -10.0, 20.0, 60.0)
SHAPE = (4, 48, 40)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_BLOCK_BYTES", 1)


def rewrite(source: Path, value: int) -> None:
    """The same array again, in place: its metadata do not change."""
    if not source.exists():
        zarr.create_array(source, shape=SHAPE, chunks=(1, 16, 40), dtype="uint16", fill_value=0)
    time.sleep(0.01)  # a tick of the file system's clock
    data = np.random.default_rng(value).integers(1, 30000, size=SHAPE).astype(np.uint16)
    zarr.open_array(source, mode="r+")[:] = data


def interrupt(source: Path | str, out: Path, patch: pytest.MonkeyPatch, blocks: int) -> None:
    """An ingest that ends after some blocks."""
    with patch.context() as here:
        inner, calls = Target.stored, list[int]()

        def stored(self, box):
            calls.append(box.start[1])
            if len(calls) > blocks:
                raise KeyboardInterrupt
            return inner(self, box)

        here.setattr(Target, "stored", stored)
        with pytest.raises(KeyboardInterrupt):
            ingest(source, out, angles=ANGLES)


@pytest.mark.parametrize("changed", [False, True])
def test_a_zarr_array_that_is_rewritten_is_not_mixed(tmp_path, monkeypatch, caplog, changed):
    source, out = tmp_path / "s.zarr", tmp_path / "t.zarr"
    rewrite(source, 1)
    interrupt(source, out, monkeypatch, 4)
    assert "the same command resumes it" in caplog.text
    if changed:
        rewrite(source, 2)
    caplog.set_level("INFO", "ddgm_dist")
    series = ingest(source, out, angles=ANGLES)
    np.testing.assert_array_equal(series.read(slice(None)), zarr.open_array(source)[:])
    assert ("of another source" in caplog.text) == changed
    assert ("resumed; " in caplog.text) != changed


def test_a_source_that_is_rewritten_while_it_is_read_is_refused(tmp_path, monkeypatch):
    source, out = tmp_path / "s.zarr", tmp_path / "t.zarr"
    rewrite(source, 1)
    measure = steps.measure_views

    def and_then(*args, **options):
        found = measure(*args, **options)
        rewrite(source, 2)
        return found

    monkeypatch.setattr(steps, "measure_views", and_then)
    with pytest.raises(InputError, match="changed while it was being read"):
        ingest(source, out, angles=ANGLES)
    assert not out.exists()


def test_nothing_is_known_of_what_an_object_store_holds(tmp_path, caplog):
    caplog.set_level("INFO", "ddgm_dist")
    assert source_states([], "s3://bucket/s.zarr") is None
    assert "no ingest is resumed" in caplog.text


def test_a_source_in_an_object_store_is_read_and_not_resumed(tmp_path, bucket, monkeypatch, caplog):
    here, out = tmp_path / "s.zarr", tmp_path / "t.zarr"
    rewrite(here, 1)
    place = locate(f"{bucket}/s.zarr", "source")
    spec = {"driver": "s3", "bucket": place.bucket, "path": f"{place.key}/"}
    spec |= {"endpoint": os.environ["AWS_ENDPOINT_URL"], "aws_region": "us-east-1"}
    store = ts.KvStore.open(spec).result()
    for file in here.rglob("*"):
        if file.is_file():
            store.write(file.relative_to(here).as_posix(), file.read_bytes()).result()
    interrupt(f"{bucket}/s.zarr", out, monkeypatch, 4)
    assert "resumes" not in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]
    series = ingest(f"{bucket}/s.zarr", out, angles=ANGLES)
    np.testing.assert_array_equal(series.read(slice(None)), zarr.open_array(here)[:])


def test_what_is_not_known_to_be_the_same_is_not_resumed(tmp_path, monkeypatch, caplog):
    source, out = tmp_path / "s.zarr", tmp_path / "t.zarr"
    rewrite(source, 1)
    monkeypatch.setattr(recipe, "source_states", lambda paths, name: None)
    interrupt(source, out, monkeypatch, 4)
    assert "resumes" not in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]
    series = ingest(source, out, angles=ANGLES)
    np.testing.assert_array_equal(series.read(slice(None)), zarr.open_array(source)[:])
    assert open_tilt_series(out).shape == SHAPE


def test_an_output_that_exists_is_refused_before_the_views_are_read(tmp_path, monkeypatch):
    source, out = tmp_path / "s.zarr", tmp_path / "t.zarr"
    rewrite(source, 1)
    ingest(source, out, angles=ANGLES)
    monkeypatch.setattr(ZarrVolume, "read", lambda self, box: pytest.fail("it was read"))
    with pytest.raises(InputError, match="exists already"):
        ingest(source, out, angles=ANGLES)
