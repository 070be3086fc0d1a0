"""With --strict an ingest is refused if anything is warned of; what was written is not lost."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ddgm_dist.acquisition import steps, writing
from ddgm_dist.acquisition.ingest import ingest
from ddgm_dist.acquisition.prepared import PreparedViews
from ddgm_dist.core.units import format_bytes
from ddgm_dist.errors import InputError
from ddgm_dist.records.replacement import Replacement
from ddgm_dist.tilts.series import open_tilt_series

ANGLES = np.arange(-60.0, 61, 10.0)
OPTIONS = {"angles": ANGLES.tolist(), "thickness": 9}


def slab() -> np.ndarray:
    r = np.random.default_rng(0)
    path = 1000 / np.cos(np.deg2rad(ANGLES))[:, None, None]
    return (path * (1 + 0.05 * r.standard_normal((13, 40, 60)))).astype(np.float32)


def a_constant(data: np.ndarray) -> None:
    data += 2000


def a_hot_pixel(data: np.ndarray) -> None:
    data[3, 4, 5] = 60000


def a_dead_row(data: np.ndarray) -> None:
    data[2, 11] = 0


def an_empty_edge(data: np.ndarray) -> None:
    data[:, :, -3:] = 0


FAULTS = [a_constant, a_hot_pixel, a_dead_row, an_empty_edge]


def a_dead_column(data: np.ndarray) -> None:
    data[:, :, 30] = 0


def a_saturated_column(data: np.ndarray) -> None:
    data[:, :, 30:32] = np.arange(13.0)[:, None, None] + 30000


def saved(folder: Path, data: np.ndarray) -> Path:
    np.save(folder / "s.npy", data)
    return folder / "s.npy"


def test_a_good_series_is_not_refused(tmp_path, caplog):
    series = ingest(saved(tmp_path, slab()), tmp_path / "t.zarr", strict=True, **OPTIONS)
    np.testing.assert_array_equal(series.read(slice(None)), slab())
    assert not caplog.records


@pytest.mark.parametrize("fault", FAULTS)
def test_findings_are_refused_and_the_same_command_without_it_only_ends(
    tmp_path, monkeypatch, caplog, fault
):
    monkeypatch.setattr(writing, "_BLOCK_BYTES", 1)
    data = slab()
    fault(data)
    source, out = saved(tmp_path, data), tmp_path / "t.zarr"
    for _ in range(2):  # and again
        with pytest.raises(InputError) as refused:
            ingest(source, out, strict=True, **OPTIONS)
        assert "is refused with --strict: " in refused.value.why
        (folder,) = (p for p in tmp_path.iterdir() if p.name not in ("s.npy", "t.zarr"))
        size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
        assert f"the pixels are kept in {folder}, {format_bytes(size)}; " in refused.value.hint
        with pytest.raises(InputError):
            open_tilt_series(out)
    warned = [r.getMessage() for r in caplog.records]
    assert not any(refused.value.why.split("--strict: ")[1] in line for line in warned)
    assert not any("unfinished" in line for line in warned)
    monkeypatch.setattr(PreparedViews, "read_view", lambda *_: pytest.fail("it was read again"))
    series = ingest(source, out, **OPTIONS)
    np.testing.assert_array_equal(series.read(slice(None)), data)
    monkeypatch.undo()
    fresh = ingest(source, tmp_path / "u.zarr", **OPTIONS)
    assert series.fingerprint() == fresh.fingerprint()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.npy", "t.zarr", "u.zarr"]


@pytest.mark.parametrize("fault", [a_dead_column, a_saturated_column])
def test_dead_columns_are_refused_before_anything_is_written(tmp_path, fault):
    data = slab()
    fault(data)
    with pytest.raises(InputError, match=r"is refused with --strict: columns? 30.*: one value"):
        ingest(saved(tmp_path, data), tmp_path / "t.zarr", strict=True, **OPTIONS)
    assert [p.name for p in tmp_path.iterdir()] == ["s.npy"]


def test_the_former_store_stays_where_the_new_one_is_refused(tmp_path):
    source, out = saved(tmp_path, slab()), tmp_path / "t.zarr"
    ingest(source, out, **OPTIONS)
    with pytest.raises(InputError, match="constant"):
        ingest(saved(tmp_path, slab() + 2000), out, strict=True, overwrite=True, **OPTIONS)
    np.testing.assert_array_equal(open_tilt_series(out).read(slice(None)), slab())


def test_a_store_that_was_whole_but_not_in_its_place_is_judged_too(tmp_path, monkeypatch):
    source, out = saved(tmp_path, slab() + 2000), tmp_path / "t.zarr"

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Replacement, "publish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ingest(source, out, **OPTIONS)
    with pytest.raises(InputError, match="refused with --strict: a constant"):
        ingest(source, out, strict=True, **OPTIONS)
    monkeypatch.setattr(PreparedViews, "read_view", lambda *_: pytest.fail("it was read again"))
    assert ingest(source, out, **OPTIONS).shape == (13, 40, 60)


def test_what_cannot_be_looked_at_is_warned_of_and_refused_with_strict_only(
    tmp_path, monkeypatch, caplog
):
    def fail(*_, **__):
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(steps, "findings", fail)
    source, out = saved(tmp_path, slab()), tmp_path / "t.zarr"
    why = r"the pixels could not be looked at \(ZeroDivisionError: by nothing\)"
    with pytest.raises(InputError, match=f"refused with --strict: {why}.*are kept in "):
        ingest(source, out, strict=True, **OPTIONS)
    assert not caplog.records
    series = ingest(source, out, **OPTIONS)
    np.testing.assert_array_equal(series.read(slice(None)), slab())
    (line,) = (record.getMessage() for record in caplog.records)
    assert re.search(why, line)


def test_several_warnings_with_strict_are_told_once_each(tmp_path, caplog):
    data = slab()
    a_constant(data)
    a_hot_pixel(data)
    with pytest.raises(InputError) as refused:
        ingest(saved(tmp_path, data), tmp_path / "t.zarr", strict=True, **OPTIONS)
    told = [r.getMessage() for r in caplog.records] + [str(refused.value)]
    for word in ("a constant of about", "view 4"):
        assert len([line for line in told if word in line]) == 1


def test_where_nothing_can_be_kept_nothing_is_promised(tmp_path, monkeypatch):
    monkeypatch.setattr("ddgm_dist.acquisition.recipe.source_states", lambda *_: None)
    with pytest.raises(InputError) as refused:
        ingest(saved(tmp_path, slab() + 2000), tmp_path / "t.zarr", strict=True, **OPTIONS)
    assert "kept" not in refused.value.hint
    assert [p.name for p in tmp_path.iterdir()] == ["s.npy"]
