"""Noise and misfit of whole series: what is aligned is explained, what is not is found, and kept."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage as ndi

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.errors import InputError
from ddgm_dist.planning.config import Config
from ddgm_dist.planning.problem import Problem
from ddgm_dist.runs.build_problem import BuiltProblem, build_problem
from ddgm_dist.runs.plan import plan
from ddgm_dist.tilts.estimate import estimate
from ddgm_dist.tilts.misfit import binned_columns
from ddgm_dist.tilts.recorded_estimate import Estimate
from ddgm_dist.tilts.sampled_fit import fit_sampled_rows
from ddgm_dist.tilts.series import TiltSeries, TiltSeriesMeta, open_tilt_series, write_tilt_series
from tests.small_runs import forget_record, project, specimen

ANGLES = tuple(float(a) for a in range(-60, 61, 3))
CLEAN = project(specimen(16, 8, 220), 140, ANGLES)
CONTRAST = float((CLEAN - CLEAN.mean(axis=(1, 2), keepdims=True)).std())
Floats = np.ndarray


def noise(fraction: float) -> Floats:
    drawn = np.random.default_rng(1).standard_normal(CLEAN.shape)
    return (fraction * CONTRAST * drawn).astype(np.float32)


def misaligned(pixels: float) -> Floats:
    moves = np.random.default_rng(2).normal(0, pixels, (len(ANGLES), 2))
    return np.stack(
        [ndi.shift(p, m, order=3, mode="nearest") for p, m in zip(CLEAN, moves, strict=True)]
    )


def series(folder: Path, data: Floats, **meta: object) -> TiltSeries:
    known = replace(TiltSeriesMeta(ANGLES, thickness_px=16), **meta)  # type: ignore[arg-type]
    return write_tilt_series(folder / "t.zarr", data, known, overwrite=True)


def found(folder: Path, data: Floats, **meta: object) -> Estimate:
    store = series(folder, data, **meta)
    return estimate(store, store.geometry(16))


@pytest.fixture(autouse=True)
def _same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "same_estimate.py").write_text("def same(x, sigma):\n    return x\n")
    monkeypatch.syspath_prepend(tmp_path)


def built(path: Path, **keys: object) -> BuiltProblem:
    config = Config(denoiser="same_estimate:same", **keys)  # type: ignore[arg-type]
    return build_problem(path, config.problem())


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.25, 1.0])
def test_aligned_views_are_explained_up_to_their_noise(tmp_path: Path, fraction: float) -> None:
    own = found(tmp_path, CLEAN + noise(fraction))
    assert own.intensity.misfit < 0.5 * own.intensity.sigma_y
    assert own.intensity.uncertainty == own.intensity.sigma_y
    assert len(own.noise) == len(own.unexplained) == len(ANGLES)
    if fraction > 0.1:
        assert own.intensity.sigma_y == pytest.approx(fraction * CONTRAST, rel=0.04)
        rms = math.sqrt(float(np.mean(np.square(own.unexplained))))
        assert rms == pytest.approx(fraction * CONTRAST, rel=0.1)


@pytest.mark.parametrize("pixels", [1.0, 3.0])
def test_views_out_of_line_are_found(tmp_path: Path, pixels: float) -> None:
    """About by how much they differ from what they would be."""
    moved = misaligned(pixels)
    own = found(tmp_path, moved + noise(0.05)).intensity
    error = float((moved - CLEAN).std())
    assert error > 2 * own.sigma_y
    assert 0.7 * error < own.misfit < 1.8 * error
    assert own.misfit == float(f"{own.misfit:.3g}")


def test_one_view_out_of_place_stands_out(tmp_path: Path) -> None:
    data = CLEAN + noise(0.05)
    data[25] = np.roll(data[25], 6, axis=1)
    own = found(tmp_path, data)
    assert int(np.argmax(own.unexplained)) == 25


def test_the_misfit_is_in_the_unit_of_the_data(tmp_path: Path) -> None:
    data = misaligned(2.0) + noise(0.05)
    one, other = found(tmp_path, data).intensity, found(tmp_path, 1e-3 * data).intensity
    assert other.misfit == pytest.approx(1e-3 * one.misfit, rel=0.01)


def test_shifts_that_are_known_are_no_misfit(tmp_path: Path) -> None:
    moves = np.random.default_rng(2).integers(-3, 4, (len(ANGLES), 2))
    data = np.stack(
        [np.roll(p, m, axis=(0, 1)) for p, m in zip(CLEAN + noise(0.05), moves, strict=True)]
    )
    told = found(tmp_path, data, shifts_px=tuple((float(y), float(x)) for y, x in moves)).intensity
    untold = found(tmp_path, data).intensity
    assert untold.misfit > 3 * told.misfit


def test_noise_that_was_smoothed_is_found(tmp_path: Path) -> None:
    """By half a pixel: neighbours show a third of it."""
    drawn = noise(0.5)
    drawn = (drawn + np.roll(drawn, 1, 1)) / 2
    drawn = (drawn + np.roll(drawn, 1, 2)) / 2
    own = found(tmp_path, CLEAN + drawn)
    assert own.intensity.sigma_y == pytest.approx(float(drawn.std()), rel=0.15)
    assert np.mean(own.noise) == pytest.approx(float(drawn.std()), rel=0.15)


def test_noise_known_from_counts_is_taken_unless_the_pixels_show_more(tmp_path: Path) -> None:
    data = CLEAN + noise(0.25)
    plain = found(tmp_path, data)
    known = tuple(0.4 * CONTRAST + t for t in range(len(ANGLES)))
    told = found(tmp_path, data, sigma_y=known)
    assert told.noise == pytest.approx(known, rel=1e-3)
    rms = math.sqrt(float(np.mean(np.square(known))))
    assert told.intensity.sigma_y == pytest.approx(rms, rel=0.01)
    low = found(tmp_path, data, sigma_y=(0.01,) * len(ANGLES))
    assert low == plain


def test_a_noise_that_is_given_is_all_that_counts(tmp_path: Path) -> None:
    path = Path(str(series(tmp_path, misaligned(3.0)).path))
    given = built(path, sigma_y=2.0).problem
    assert given.intensity == Intensity(given.intensity.mean, given.intensity.std, 2.0)


def test_the_step_rule_heeds_what_the_configuration_says(tmp_path: Path) -> None:
    path = Path(str(series(tmp_path, misaligned(3.0) + noise(0.05)).path))

    def steps(**keys: object) -> Problem:
        return built(path, **keys).problem

    auto, off = steps(), steps(discrepancy="off")
    noisy = auto.intensity.sigma_y
    assert auto.intensity.misfit > 3 * noisy
    assert sum(auto.schedule.steps) < sum(off.schedule.steps)
    assert off.schedule == steps(discrepancy=0.5 * noisy).schedule
    assert auto.schedule == steps(discrepancy=auto.intensity.misfit).schedule
    assert steps(step_rule="paper").intensity.misfit == 0
    given = steps(sigma_y=noisy, std=auto.intensity.std)
    assert given.schedule == off.schedule


def test_the_record_keeps_noise_and_misfit_by_view(tmp_path: Path) -> None:
    data = misaligned(2.0) + noise(0.25)
    path = Path(str(series(tmp_path, data).path))
    kept = built(path)
    assert kept.estimate is not None
    assert len(kept.estimate.noise) == len(kept.estimate.unexplained) == len(ANGLES)
    record = open_tilt_series(path).record
    assert record is not None
    assert record.estimates["extended"] == kept.estimate
    read = built(forget_record(path))
    assert read.problem.to_dict() == kept.problem.to_dict()
    assert read.estimate == kept.estimate


def test_a_record_of_a_former_version_is_estimated_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows of no misfit; the rest of it is believed."""

    def former(own: Estimate) -> dict[str, object]:
        values = {k: v for k, v in vars(own.intensity).items() if k != "misfit"}
        return {"intensity": values, "omitted": own.omitted, "constant": own.constant}

    with monkeypatch.context() as patch:
        patch.setattr(Estimate, "to_dict", former)
        path = Path(str(series(tmp_path, misaligned(2.0)).path))
    text = next(path.rglob("survey.json")).read_text()
    assert "misfit" not in json.dumps(json.loads(text)["estimates"])
    record = open_tilt_series(path).record
    assert record is not None
    assert record.estimates["extended"].noise == ()
    assert built(path).problem.intensity.misfit > 0


def test_the_plan_shows_both(tmp_path: Path) -> None:
    path = Path(str(series(tmp_path, misaligned(2.0) + noise(0.05)).path))
    how = plan(path, {"denoiser": "same_estimate:same"})
    assert how.intensity is not None
    assert f"misfit {how.intensity.misfit:.3g} (more than the noise" in how.describe()
    assert how.to_dict()["intensity"]["misfit"] == how.intensity.misfit
    aligned = Path(str(series(tmp_path, CLEAN + noise(0.25)).path))
    assert "more than the noise" not in plan(aligned, {"denoiser": "same_estimate:same"}).describe()


def test_nothing_is_said_where_views_do_not_depend_on_each_other(tmp_path: Path) -> None:
    path = tmp_path / "few.zarr"
    store = write_tilt_series(path, CLEAN[:1], TiltSeriesMeta(ANGLES[:1], thickness_px=16))
    intensity = Intensity(100.0, 20.0, 1.0)
    assert fit_sampled_rows(store, store.geometry(16), intensity).unexplained is None
    assert estimate(store, store.geometry(16)).unexplained == ()


@pytest.mark.parametrize("field", [100, 101, 1200, 4097])
@pytest.mark.parametrize("thickness", [16, 65, 200, 3000])
@pytest.mark.parametrize("boundary", ["extended", "vacuum"])
def test_a_binned_part_keeps_the_middle_of_the_field(
    field: int, thickness: int, boundary: str
) -> None:
    """A point at the centre is seen where it is seen by the whole, and the sizes are bounded."""
    shifts = ((0.0, 1.5), (2.0, -3.0))
    whole = Geometry((-60.0, 0.0), thickness, 9, field, shifts, boundary)  # type: ignore[arg-type]
    part = binned_columns(whole)
    width = part.stop - part.start
    assert width == part.bin * part.geometry.field <= field
    assert part.geometry.thickness <= 64 or part.bin == field
    for tilt in range(2):
        seen = (field - 1) / 2 + shifts[tilt][1]
        binned = (part.geometry.field - 1) / 2 + part.geometry.shift(tilt)[1]
        there = part.start + (binned + 0.5) * part.bin - 0.5
        assert there == pytest.approx(seen, abs=1e-9)
    assert part.geometry.field <= 1024 if boundary == "vacuum" else part.geometry.field <= 2048


@pytest.mark.parametrize("value", [(1.0,), (1.0,) * 40 + (-1.0,), (1.0,) * 40 + (math.nan,)])
def test_noise_that_cannot_belong_to_the_series_is_refused(
    tmp_path: Path, value: tuple[float, ...]
) -> None:
    with pytest.raises(InputError, match="sigma_y"):
        series(tmp_path, CLEAN, sigma_y=value)


def test_noise_in_the_metadata_is_read_again_and_identifies_the_series(tmp_path: Path) -> None:
    plain = series(tmp_path, CLEAN).fingerprint()
    store = series(tmp_path, CLEAN, sigma_y=(2.5,) * len(ANGLES))
    again = open_tilt_series(store.path)
    assert again.meta.sigma_y == (2.5,) * len(ANGLES)
    assert again.fingerprint() == store.fingerprint() != plain
    assert series(tmp_path, CLEAN).fingerprint() == plain
