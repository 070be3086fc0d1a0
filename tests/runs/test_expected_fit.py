"""A quick fit of a few rows tells data that a volume can explain from data that none can."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.cli import main
from ddgm_dist.core.box import Box
from ddgm_dist.paths.locate import locate
from ddgm_dist.planning.config import parse_config
from ddgm_dist.records.fit import Fit
from ddgm_dist.runs.build_problem import build_problem
from ddgm_dist.runs.expected_fit import expect, warn_of_prior
from ddgm_dist.runs.plan import plan
from ddgm_dist.simulation.phantom import TissuePhantom
from ddgm_dist.tilts import first_image, misfit, sampled_fit
from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series
from tests.small_runs import ANGLES, forget_record, project, specimen

NOISE, FIELD = 5.0, 200
SHIFTS = tuple((0.0, 1.3 * t - 6.4) for t in range(len(ANGLES)))


def record(path: Path, angles: Any = ANGLES, *, shifted: bool = False) -> Path:
    """Write views of a slab, each of which is as far off as its shift says."""
    data = project(specimen(12, 8, FIELD + 80), FIELD + 40, ANGLES)
    if shifted:
        # Linear interpolation of a smooth image, at the place of each detector column.
        column = np.arange(FIELD + 40, dtype=float)
        for view, (_, dx) in zip(data, SHIFTS, strict=True):
            view[:] = [np.interp(column - dx, column, row) for row in view]
    data = data[:, :, 20:-20]
    data = data + NOISE * np.random.default_rng(1).standard_normal(data.shape).astype(np.float32)
    meta = TiltSeriesMeta(tuple(angles), SHIFTS if shifted else None, thickness_px=12)
    write_tilt_series(path, data.astype(np.float32), meta)
    return path


def expected(path: Path, **keys: Any) -> Fit | None:
    config = parse_config({"sigma_y": NOISE, "rows_per_call": 2, **keys})
    built = build_problem(locate(path, "tilts"), config.problem())
    return expect(built)[0]


@pytest.mark.parametrize("columns", [512, 96], ids=["whole", "cropped"])
@pytest.mark.parametrize("shifted", [False, True], ids=["aligned", "shifted"])
def test_good_data_and_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int, shifted: bool
) -> None:
    monkeypatch.setattr(misfit, "_COLUMNS", columns)
    found = expected(record(tmp_path / "good.zarr", shifted=shifted))
    assert found is not None
    assert found.explained
    assert found.misfit < 0.1
    assert found.ratio < 1.5
    assert found.coverage == 4 / 8
    assert "nothing that speaks against" in found.outlook()
    wrong = np.random.default_rng(2).permutation(ANGLES).tolist()
    worse = expected(record(tmp_path / "bad.zarr", wrong, shifted=shifted))
    assert worse is not None
    assert not worse.explained
    assert worse.ratio > 4 * found.ratio
    assert "does NOT explain" in worse.outlook()
    assert "aligned" in worse.outlook()


def test_the_columns_that_are_cut_out_are_those_of_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crop that ignored the shifts would see another misalignment in each view."""
    monkeypatch.setattr(misfit, "_COLUMNS", 96)
    path = record(tmp_path / "t.zarr", shifted=True)
    found = expected(path)
    unshifted = build_problem(locate(path, "tilts"), parse_config({}).problem()).series
    data = unshifted.read(slice(0, 8), slice(0, FIELD))
    meta = TiltSeriesMeta(tuple(ANGLES), None, thickness_px=12)
    write_tilt_series(tmp_path / "u.zarr", data, meta)
    ignored = expected(tmp_path / "u.zarr")
    assert found is not None
    assert ignored is not None
    assert found.ratio < 1
    assert ignored.ratio > 4
    assert found.explained
    assert not ignored.explained


def test_an_image_that_would_take_long_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is said of the specimen then, and the verdict is the same."""
    expected_before = expected(record(tmp_path / "t.zarr"))
    monkeypatch.setattr(first_image, "_MOST", 100)
    path = record(tmp_path / "u.zarr")
    built = build_problem(locate(path, "tilts"), parse_config({}).problem())
    assert built.estimate is not None
    assert built.estimate.fit is not None
    assert built.estimate.fit.likeness is None
    assert expected(path) == expected_before
    assert "noise           sigma_y 5 per pixel" in plan(path, {"sigma_y": NOISE}).describe()


def test_a_recorded_fit_is_that_of_the_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken as long as its mean and deviation are those of the run."""
    path = record(tmp_path / "t.zarr")
    config = {"denoiser": "fibsem"}
    recorded = plan(path, config)
    forget_record(path)
    assert plan(path, config).expected_fit == recorded.expected_fit
    path = record(tmp_path / "u.zarr")
    fits = list[object]()
    fit = sampled_fit.fit_sampled_rows
    monkeypatch.setattr(
        "ddgm_dist.runs.expected_fit.fit_sampled_rows",
        lambda *args: fits.append(args) or fit(*args),
    )
    assert plan(path, config).expected_fit == recorded.expected_fit
    assert not fits
    assert recorded.intensity is not None
    other = plan(path, {**config, "mean": 1.1 * recorded.intensity.mean}).expected_fit
    assert fits
    assert other is not None
    assert other != recorded.expected_fit


def test_a_plan_has_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = record(tmp_path / "t.zarr")
    found = plan(path, {"sigma_y": NOISE})
    assert found.intensity is not None
    assert found.intensity.sigma_y == NOISE
    assert found.expected_fit is not None
    assert found.expected_fit.outlook() in " ".join(found.describe().split())
    assert found.expected_fit.names.angles_deg == ANGLES
    assert all(len(line) <= 80 for line in found.describe().splitlines())
    assert main(["plan", str(path), "--json", f"--set=sigma_y={NOISE}"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert Fit.from_dict(printed["expected_fit"]) == found.expected_fit
    assert printed["intensity"]["sigma_y"] == NOISE
    assert plan(path, check_fit=False).expected_fit is None


def test_a_specimen_in_vacuum_is_taken_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(misfit, "_COLUMNS", 48)
    volume = specimen(12, 8, FIELD)
    volume[:, :, :40] = volume[:, :, -40:] = 0
    data = project(volume, FIELD, ANGLES)
    data += NOISE * np.random.default_rng(1).standard_normal(data.shape).astype(np.float32)
    write_tilt_series(tmp_path / "t.zarr", data, TiltSeriesMeta(ANGLES, None, thickness_px=12))
    found = expected(tmp_path / "t.zarr", boundary="vacuum")
    assert found is not None
    assert found.explained
    assert found.misfit < 0.05


@pytest.mark.parametrize("inverted", [False, True])
def test_inverted_contrast_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, inverted: bool
) -> None:
    wide, angles = 440, tuple(range(-60, 61, 5))
    volume = TissuePhantom((24, 16, wide)).read(Box((0, 0, 0), (24, 16, wide))) / 255
    if inverted:
        volume = 1 - volume
    data = project(volume.astype(np.float32), 240, angles)
    data += np.float32(0.03 * data.std()) * np.random.default_rng(0).standard_normal(
        data.shape
    ).astype(np.float32)
    path = tmp_path / "t.zarr"
    write_tilt_series(path, data, TiltSeriesMeta(angles, thickness_px=24))
    found = plan(path, {})
    assert found.expected_fit is not None
    assert found.expected_fit.explained
    said = [f.text for f in found.findings if f.kind == "prior"]
    assert bool(said) == inverted
    assert ("contrast is inverted" in caplog.text) == inverted
    caplog.clear()
    built = build_problem(locate(path, "tilts"), parse_config({}).problem())
    warn_of_prior(built)
    assert ("contrast is inverted" in caplog.text) == inverted
    if inverted:
        assert said[0] in " ".join(found.describe().split())
        # Views that contradict each other are the verdict's matter.
        wrong = TiltSeriesMeta(angles[::-1][5:] + angles[::-1][:5], thickness_px=24)
        write_tilt_series(path, data, wrong, overwrite=True)
        assert not [f for f in plan(path, {}).findings if f.kind == "prior"]
