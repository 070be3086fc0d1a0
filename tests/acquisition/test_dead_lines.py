"""Dead lines of a detector: left out where they would spread, and else named."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ddgm_dist.acquisition.ingest import ingest
from ddgm_dist.errors import InputError

ANGLES = tuple(float(a) for a in range(-60, 61, 10))
ALL = slice(None)
OPTIONS = {"angles": ANGLES, "thickness": 9}


def images() -> np.ndarray:
    """Line integrals of a slab, as whole numbers."""
    r = np.random.default_rng(0)
    texture = gaussian_filter(r.standard_normal((len(ANGLES), 80, 96)), (0, 3, 3))
    path = 1 / np.cos(np.deg2rad(ANGLES))[:, None, None]
    noise = 5 * r.standard_normal(texture.shape)
    return np.rint(path * (1000 + 100 * texture / texture.std()) + noise).astype(np.int16)


def saved(folder: Path, name: str, *, columns=(), rows=(), turn: float | None = None) -> Path:
    """A stack with dead lines, and the file of its alignment."""
    data = images()
    data[:, :, list(columns)] = 0
    data[:, list(rows)] = np.arange(len(ANGLES))[:, None, None]
    path = folder / f"{name}.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(data)
    if turn is not None:
        c, s = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
        lines = (f"{c} {-s} {s} {c} {1.3 * k - 6} {0.4 * k}\n" for k in range(len(ANGLES)))
        (folder / f"{name}.xf").write_text("".join(lines))
    return path


@pytest.mark.parametrize("turn", [3.0, 84.0])
@pytest.mark.parametrize("lines", [{"columns": (40, 41)}, {"rows": (33,)}, {"columns": (1,)}])
def test_they_do_not_spread_where_images_are_resampled(tmp_path, caplog, turn, lines):
    clean = ingest(saved(tmp_path, "c", turn=turn), tmp_path / "c.zarr", **OPTIONS).read(ALL)
    assert not caplog.records
    series = ingest(
        saved(tmp_path, "d", turn=turn, **lines), tmp_path / "d.zarr", strict=True, **OPTIONS
    )
    found = series.read(ALL)
    both = np.isfinite(found) & np.isfinite(clean)
    assert np.abs(found - clean)[both].max() < 150  # and 1000 without
    lost = np.isfinite(clean).sum() - both.sum()
    assert 0 < lost < 0.06 * found.size
    assert series.meta.bad_pixels == "unmeasured"
    said = [f for f in series.meta.provenance.facts if f.what == "dead lines of the detector"]
    assert len(said) == 1


def test_plain_columns_are_named_and_left_out_where_that_is_asked_for(tmp_path, caplog):
    path = saved(tmp_path, "s", columns=(40, 90))
    series = ingest(path, tmp_path / "t.zarr", **OPTIONS)
    (line,) = (r.getMessage() for r in caplog.records)
    assert "columns 40, 90 of the images" in line
    assert "--impute-nonfinite" in line
    assert series.dtype == np.int16
    with pytest.raises(InputError, match="strict: columns 40, 90"):
        ingest(path, tmp_path / "u.zarr", strict=True, **OPTIONS)
    caplog.clear()
    found = ingest(path, tmp_path / "v.zarr", strict=True, impute_nonfinite=True, **OPTIONS)
    expected = images().astype(np.float32)
    expected[:, :, [40, 90]] = np.nan
    np.testing.assert_array_equal(found.read(ALL), expected)
    assert found.meta.bad_pixels == "unmeasured"


def test_without_despiking_they_are_kept_and_named(tmp_path, caplog):
    path = saved(tmp_path, "s", columns=(40,), turn=84.0)
    series = ingest(path, tmp_path / "t.zarr", despike=False, **OPTIONS)
    (line,) = (r.getMessage() for r in caplog.records if "column 40 " in r.getMessage())
    assert "--no-despike" in line
    assert np.nanmin(series.read(ALL)) < 200


def test_columns_that_are_not_stored_are_not_told(tmp_path, caplog):
    ingest(
        saved(tmp_path, "s", columns=(4,)), tmp_path / "t.zarr", columns=slice(10, 90), **OPTIONS
    )
    assert not caplog.records


@pytest.mark.parametrize("mean", [0.02, 0.05])
def test_sparse_counts_are_not_told_of_dead_columns(tmp_path, caplog, mean):
    data = np.random.default_rng(0).poisson(mean, (7, 64, 1000)).astype(np.uint8)
    np.save(tmp_path / "s.npy", data)
    angles = tuple(float(a) for a in range(-60, 61, 20))
    ingest(tmp_path / "s.npy", tmp_path / "t.zarr", angles=angles, thickness=9, counts="none")
    assert not any("one value" in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize("bin", [1, 2])
def test_no_logarithm_is_taken_of_them(tmp_path, bin):
    path = 1 / np.cos(np.deg2rad(ANGLES))[:, None, None]
    data = np.random.default_rng(0).poisson(3000 * np.exp(-0.6 * path), (len(ANGLES), 40, 300))
    data[:, :, 40] = 0
    np.save(tmp_path / "s.npy", data.astype(np.uint16))
    series = ingest(tmp_path / "s.npy", tmp_path / "t.zarr", counts=3000, bin=bin, **OPTIONS)
    found = series.read(ALL)
    lost = ~np.isfinite(found)
    assert lost[:, :, 40].all() if bin == 1 else not lost.any()  # the column beside it is there
    assert lost.sum() == (lost[:, :, 40].size if bin == 1 else 0)
    rest = found if bin > 1 else np.delete(found, 40, axis=2)
    assert np.abs(rest.mean(axis=1) - 0.6 * path[:, 0]).max() < 0.05
