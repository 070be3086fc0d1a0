"""A view with more or less dose than the others keeps the level of its own vacuum."""

from __future__ import annotations

import numpy as np
import pytest

from ddgm_dist.views.own_level import has_own_vacuum
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
