"""Laws of fits that faulty views do not move."""

from __future__ import annotations

import numpy as np
import pytest

from ddgm_dist.views.robust import robust_fit, robust_scale


@pytest.mark.parametrize("seed", range(5))
def test_a_quarter_of_faulty_values_moves_no_fit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.linspace(0, 1, 40)
    values = 3 - 2 * x + 0.01 * rng.normal(size=40)
    values[rng.choice(40, 10, replace=False)] += rng.uniform(1, 5, 10)
    found, weights = robust_fit(np.stack([x, np.ones(40)], axis=1), values)
    np.testing.assert_allclose(found, [-2, 3], atol=0.03)
    assert (weights < 0.05).sum() >= 10


def test_the_scale_is_the_standard_deviation() -> None:
    values = 5 + 0.3 * np.random.default_rng(0).normal(size=4000)
    values[:400] = 100
    values[400:500] = np.nan
    assert abs(robust_scale(values) - 0.3) < 0.05
    assert robust_scale(np.full(3, np.nan)) == 0
