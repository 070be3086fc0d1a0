"""A view with more or less dose than the others keeps the level of its own vacuum."""

from __future__ import annotations

import numpy as np
import pytest

from ddgm_dist.errors import InputError
from ddgm_dist.views.own_level import has_own_vacuum, stands_apart
from tests.views.slab import ANGLES, counts, tissue
from tests.views.test_levels import estimate

VIEWS = [5, 20, 33]


def beside_vacuum(columns: int = 30, thickness: float = 0.6) -> np.ndarray:
    integrals = thickness * tissue()
    integrals[..., :columns] = 0
    return integrals


@pytest.mark.parametrize("dose", [2.0, 0.8, 0.5, 0.2, 0.1])
@pytest.mark.parametrize("columns", [14, 30, 70])
def test_another_dose_is_taken_into_account(dose: float, columns: int) -> None:
    beam = np.full(len(ANGLES), 300.0)
    beam[VIEWS] *= dose
    found = estimate(counts(beside_vacuum(columns), beam))
    assert found.how == "vacuum"
    assert found.own == tuple(VIEWS)
    assert found.outliers == ()
    assert np.abs(np.array(found.per_view) / beam - 1).max() < 0.05


def test_a_view_that_shows_no_vacuum_gets_the_level_of_the_others() -> None:
    views = counts(beside_vacuum(), 300)
    hidden = 0.6 * tissue() + 0.3  # no vacuum: what is brightest is a specimen
    views[5] = counts(hidden, 300)[5]
    views[20] = np.random.default_rng(0).poisson(3.0, size=views[20].shape)  # no beam
    views[33] = 0
    found = estimate(views)
    assert found.how == "vacuum"
    assert found.outliers == tuple(VIEWS)
    assert found.own == ()
    np.testing.assert_allclose(np.array(found.per_view)[VIEWS], found.common)


def test_too_few_others_tell_nothing() -> None:
    probabilities = [0.1, 0.5, 0.9]
    quantiles = np.array([[50.0, 80.0, 100.0]] * 6 + [[25.0, 40.0, 50.0]])
    apart = np.arange(7) == 6
    levels = quantiles[:, 2]
    assert not has_own_vacuum(quantiles, levels, probabilities, np.arange(7), apart).any()
    more = np.concatenate([quantiles[:1], quantiles])
    flags = has_own_vacuum(more, more[:, 2], probabilities, np.arange(8), np.arange(8) == 7)
    assert flags.tolist() == [False] * 7 + [True]


@pytest.mark.parametrize("rise", [0.3, 1.0])
@pytest.mark.parametrize("thickness", [0.6, 1.2])
def test_a_dose_that_rises_with_the_tilt_is_that_of_each_vacuum(
    rise: float, thickness: float
) -> None:
    beam = 1000 / np.cos(np.radians(ANGLES)) ** rise
    found = estimate(counts(beside_vacuum(70, thickness), beam))
    assert found.how == "vacuum"
    assert found.outliers == ()
    assert np.abs(np.array(found.per_view) / beam - 1).max() < 0.05


@pytest.mark.parametrize("columns", [14, 30, 70])
@pytest.mark.parametrize("thickness", [0.3, 0.6, 1.2])
@pytest.mark.parametrize("thin", [1.0, 0.3])
def test_the_brightest_part_of_a_specimen_is_no_vacuum_because_the_dose_rises(
    thin: float, thickness: float, columns: int
) -> None:
    integrals = thickness * tissue(1)
    integrals[..., :columns] *= thin
    beam = 1000 / np.cos(np.radians(ANGLES))
    try:
        found = estimate(counts(integrals, beam))
    except InputError:
        return
    assert found.how == "cosine"


def test_parts_are_told_from_one_part() -> None:
    at, angles = np.arange(1, 50) / 50, np.array([0.0, 20.0, 60.0])
    two = np.where(at < 0.6, 50 + 10 * at, 100 + at)
    one = 50 + 10 * at
    wider = np.where(at > 0.9, two + 1, two)
    assert stands_apart([two] * 3, [100.8] * 3, angles)
    assert stands_apart([wider, two, two], [100.8] * 3, angles)
    assert not stands_apart([two, two, wider], [100.8] * 3, angles)
    assert not stands_apart([one] * 3, [59.0] * 3, angles)
    assert not stands_apart([two] * 3, [55.0] * 3, angles)  # the level is in the darker part
    assert not stands_apart([two, one, one], [100.8, 59.0, 59.0], angles)
    assert not stands_apart([np.zeros(49), np.full(49, np.nan)], [0.0, np.nan], angles[:2])
