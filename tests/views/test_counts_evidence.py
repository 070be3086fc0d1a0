"""What is taken for counts, and what is not."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from ddgm_dist.views.counts_evidence import looks_like_counts
from tests.views.slab import ANGLES, DOSE_SYMMETRIC, counts, means, tissue


@pytest.mark.parametrize("thickness", [0.2, 0.6, 1.5])
@pytest.mark.parametrize("level", [20.0, 1000.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_counts_behind_a_slab_are_found(thickness: float, level: float, seed: int) -> None:
    views = counts(thickness * tissue(seed), level)
    found = looks_like_counts(means(views), ANGLES)
    assert found is not None
    # Mean line integral at zero tilt, about.
    assert abs(found.thickness / (thickness * tissue(seed)[20].mean()) - 1) < 0.25
    assert abs(found.fall - (1 - views[[0, -1]].mean() / views[20].mean())) < 0.1


def test_gains_faulty_views_and_an_inclined_slab_are_borne() -> None:
    rng = np.random.default_rng(4)
    views = counts(0.6 * tissue(), 300 * np.exp(0.05 * rng.normal(size=len(ANGLES))))
    views[2], views[17] = 0, 0.1 * views[17]
    assert looks_like_counts(means(views), ANGLES) is not None
    assert looks_like_counts(means(counts(0.6 * tissue(0, 10.0), 300)), ANGLES) is not None


def test_exposures_are_taken_into_account() -> None:
    exposure = 1 / np.cos(np.radians(ANGLES)) ** 2
    average = means(counts(0.6 * tissue(), 100 * exposure))
    assert looks_like_counts(average, ANGLES) is None
    assert looks_like_counts(average, ANGLES, exposures=exposure) is not None


def test_counts_are_found_beside_a_fading_beam() -> None:
    fading = np.exp(-0.3 * DOSE_SYMMETRIC / len(ANGLES))
    average = means(counts(0.6 * tissue(), 300 * fading))
    found = looks_like_counts(average, ANGLES, order=DOSE_SYMMETRIC)
    assert found is not None
    assert abs(found.thickness - 0.6 * tissue()[20].mean()) < 0.15


@pytest.mark.parametrize("gain", [0.0, 0.02])
def test_a_fading_beam_alone_is_no_evidence(gain: float) -> None:
    rng = np.random.default_rng(1)
    noise = np.exp(gain * rng.normal(size=len(ANGLES)))
    for loss in (0.05, 0.3, 1.0):
        fading = np.exp(-loss * DOSE_SYMMETRIC / len(ANGLES)) * noise
        assert looks_like_counts(fading, ANGLES, order=DOSE_SYMMETRIC) is None
        if gain == 0:
            assert looks_like_counts(fading, ANGLES) is None
        one_way = np.exp(-loss * np.arange(len(ANGLES)) / len(ANGLES)) * noise
        assert looks_like_counts(one_way, ANGLES) is None


@pytest.mark.parametrize("seed", range(20))
def test_chance_is_no_evidence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for scatter in (1e-4, 0.03, 0.5):
        assert looks_like_counts(np.exp(scatter * rng.normal(size=41)), ANGLES) is None
    walk = np.exp(0.02 * rng.normal(size=41).cumsum())
    assert looks_like_counts(walk, ANGLES) is None


def test_line_integrals_and_normalised_views_are_no_counts() -> None:
    integrals = tissue()
    assert looks_like_counts(means(integrals), ANGLES) is None
    centred = integrals - integrals.mean(axis=(1, 2), keepdims=True)
    assert looks_like_counts(means(centred), ANGLES) is None
    assert looks_like_counts(np.ones(41), ANGLES) is None
    assert looks_like_counts(np.zeros(41), ANGLES) is None
    assert looks_like_counts(np.full(41, np.nan), ANGLES) is None
    assert looks_like_counts([3.0], [0.0]) is None
    # Tilts that do not reach far show nothing.
    near = np.abs(ANGLES) < 25
    views = counts(0.6 * tissue(), 300)[near]
    assert looks_like_counts(means(views), ANGLES[near]) is None


def test_measured_series_that_are_no_counts_of_a_slab(shared_data: Path) -> None:
    with np.load(shared_data / "tilt_haadf_needle" / "haadf_needle.npz") as needle:
        for name in ("raw", "aligned"):
            assert looks_like_counts(means(needle[name]), needle["angles_deg"]) is None
    with np.load(shared_data / "xray_tilt" / "capillary_24737.npz") as capillary:
        views = capillary["projections"].astype(float)
        views[:, 0, 0] = views[:, 0, 1]
        angles = capillary["angles_deg"] - 90
        assert looks_like_counts(means(views), angles) is None
        near = np.abs(angles) <= 60
        assert looks_like_counts(means(views[near]), angles[near]) is None
    with h5py.File(shared_data / "xray_tilt" / "tooth.h5") as file:
        views, angles = file["exchange/data"][:].astype(float), file["exchange/theta"][:]
        for middle in (30, 60, 90, 120, 150):
            near = np.abs(angles - middle) <= 60
            assert looks_like_counts(means(views[near]), angles[near] - middle) is None
