"""Laws of the incident level that is estimated from the views."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from ddgm_dist.errors import InputError
from ddgm_dist.views.binning import bin_view
from ddgm_dist.views.brightest import LEVEL_PROBABILITIES
from ddgm_dist.views.levels import Levels, estimate_levels
from tests.views.slab import ANGLES, DOSE_SYMMETRIC, counts, means, tissue


def estimate(
    views: NDArray[np.floating],
    angles: NDArray[np.floating] = ANGLES,
    **known: NDArray[np.floating],
) -> Levels:
    block = max(1, min(4, views.shape[1] // 8))
    quantiles = [np.quantile(bin_view(v, block, "mean"), LEVEL_PROBABILITIES) for v in views]
    average = means(views)
    return estimate_levels(average, angles, quantiles, probabilities=LEVEL_PROBABILITIES, **known)


def off(found: Levels, true: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Errors of the levels' logarithms, without views that stand out."""
    error = np.log(np.array(found.per_view) / true)
    return np.delete(error, found.outliers)


@pytest.mark.parametrize("thickness", [0.3, 0.6, 1.2])
@pytest.mark.parametrize("level", [30.0, 1000.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_level_is_found_behind_a_slab(thickness: float, level: float, seed: int) -> None:
    found = estimate(counts(thickness * tissue(seed), level))
    assert found.how == "cosine"
    # An uneven specimen is what limits it.
    assert np.abs(off(found, level)).max() < 0.2 * thickness
    assert np.std(off(found, level)) < 0.04 * thickness
    assert found.quality > 10
    assert abs(found.thickness / (thickness * tissue(seed)[20].mean()) - 1) < 0.25


def test_the_level_of_an_even_slab_is_exact() -> None:
    path = 1 / np.cos(np.radians(ANGLES))
    found = estimate_levels(200 * np.exp(-0.7 * path), ANGLES)
    np.testing.assert_allclose(found.per_view, 200, rtol=1e-9)
    assert abs(found.thickness - 0.7) < 1e-9
    assert found.outliers == ()
    assert found.offset_deg == 0
    inclined = estimate_levels(200 * np.exp(-0.7 / np.cos(np.radians(ANGLES - 8))), ANGLES)
    np.testing.assert_allclose(inclined.per_view, 200, rtol=1e-6)
    assert inclined.offset_deg == 8


def test_gains_are_found_view_by_view() -> None:
    rng = np.random.default_rng(2)
    gains = np.exp(0.03 * rng.normal(size=len(ANGLES)))
    found = estimate(counts(0.6 * tissue(), 300 * gains))
    error = off(found, 300 * gains)
    assert abs(error.mean()) < 0.12
    assert error.std() < 0.012
    assert 0.015 < found.scatter < 0.045


def test_exposures_scale_the_levels() -> None:
    exposure = 1 / np.cos(np.radians(ANGLES))
    found = estimate(counts(0.6 * tissue(), 300 * exposure), exposures=7 * exposure)
    assert np.abs(off(found, 300 * exposure)).max() < 0.12
    assert found.scatter < 0.01
    np.testing.assert_allclose(found.common, 300 * np.median(exposure), rtol=0.12)


def test_faulty_views_stand_out_and_move_nothing() -> None:
    views = counts(0.6 * tissue(), 300)
    good = estimate(views)
    views[3], views[20], views[30] = 0, 0.2 * views[20], np.nan
    found = estimate(views)
    assert found.outliers == (3, 20, 30)
    assert abs(np.log(found.common / good.common)) < 0.02
    # Their level is that of the others, so that what is wrong with them stays to be seen.
    np.testing.assert_allclose(np.array(found.per_view)[[3, 20, 30]], found.common)
    assert np.isfinite(found.per_view).all()


def test_a_fading_beam_is_told_from_the_slab_by_the_order() -> None:
    fading = np.exp(-0.3 * DOSE_SYMMETRIC / len(ANGLES))
    found = estimate(counts(0.6 * tissue(), 300 * fading), order=DOSE_SYMMETRIC)
    assert found.how == "cosine"
    assert np.abs(off(found, 300 * fading)).max() < 0.2
    assert np.std(off(found, 300 * fading)) < 0.02
    with pytest.raises(InputError, match="does not fall with the tilt"):
        estimate(counts(0 * tissue(), 300 * fading), order=DOSE_SYMMETRIC)


@pytest.mark.parametrize("columns", [14, 30, 70])
def test_vacuum_in_the_views_gives_the_level(columns: int) -> None:
    rng = np.random.default_rng(3)
    gains = np.exp(0.1 * rng.normal(size=len(ANGLES)))
    integrals = 0.6 * tissue()
    integrals[..., :columns] = 0
    found = estimate(counts(integrals, 300 * gains))
    assert found.how == "vacuum"
    assert np.abs(off(found, 300 * gains)).max() < 0.02


def test_a_bright_specimen_is_not_taken_for_vacuum() -> None:
    bright = np.random.default_rng(0).poisson(5, size=(41, 32, 96)).astype(float)
    bright[..., 60:] += 300
    with pytest.raises(InputError, match="--polarity bright"):
        estimate(bright)
    # A dense specimen beside the vacuum is none such.
    bright[..., :60] += 60
    assert estimate(bright).how == "vacuum"


def test_few_tilts_show_the_level_by_vacuum_alone() -> None:
    near = np.abs(ANGLES) < 20
    integrals = 0.6 * tissue()[near]
    with pytest.raises(InputError, match=r"tilts too alike.*--counts I0"):
        estimate(counts(integrals, 300), ANGLES[near])
    integrals[..., :40] = 0
    found = estimate(counts(integrals, 300), ANGLES[near])
    assert found.how == "vacuum"
    assert np.abs(off(found, 300)).max() < 0.02


def test_views_without_a_level_are_refused() -> None:
    with pytest.raises(InputError, match="line integrals already"):
        estimate(tissue())
    with pytest.raises(InputError, match="does not fall"):
        estimate_levels(np.ones(41), ANGLES)
    with pytest.raises(InputError, match="equally many"):
        estimate_levels([1.0, 2.0], [0.0])
    with pytest.raises(InputError, match="exposures = 0"):
        estimate_levels([1.0, 2.0], [0.0, 1.0], exposures=[0.0, 1.0])
    with pytest.raises(InputError, match="ranks of acquisition"):
        estimate_levels([1.0, 2.0], [0.0, 1.0], order=[0, 1, 2])


def test_levels_of_measured_series(shared_data: Path) -> None:
    with np.load(shared_data / "xray_tilt" / "capillary_24737.npz") as capillary:
        views = capillary["projections"].astype(float)
        views[:, 0, 0] = views[:, 0, 1]
        angles = capillary["angles_deg"] - 90
    for reach in (60, 90):
        near = np.abs(angles) <= reach
        found = estimate(views[near], angles[near])
        assert found.how == "vacuum"
        assert 0.69 < found.common < 0.73
        assert found.outliers == ()
    with h5py.File(shared_data / "xray_tilt" / "tooth.h5") as file:
        views, angles = file["exchange/data"][:].astype(float), file["exchange/theta"][:]
        dark = float(file["exchange/data_dark"][:].mean())
        white = float(file["exchange/data_white"][:].mean())
    found = estimate(views - dark, angles)
    assert found.how == "vacuum"
    assert abs(np.log(found.common / (white - dark))) < 0.03
    with np.load(shared_data / "tilt_haadf_needle" / "haadf_needle.npz") as needle:
        raw, aligned = needle["raw"].astype(float), needle["aligned"].astype(float)
        angles = needle["angles_deg"]
    for views in (raw, raw - 860, aligned):
        with pytest.raises(InputError, match="--polarity bright"):
            estimate(views, angles)
