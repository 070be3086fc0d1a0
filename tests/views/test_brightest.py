"""Laws of the brightest level of a view."""

from __future__ import annotations

import numpy as np

from ddgm_dist.views.brightest import LEVEL_PROBABILITIES, brightest_level
from ddgm_dist.views.statistics import QUANTILES


def test_the_brightest_level_is_the_top_maximum_of_the_values() -> None:
    rng = np.random.default_rng(0)
    dark, bright = rng.normal(100, 10, 5000), rng.normal(300, 5, 1000)
    quantiles = np.quantile(np.concatenate([dark, bright]), LEVEL_PROBABILITIES)
    coarse = np.quantile(np.concatenate([dark, bright]), QUANTILES)
    alone = np.quantile(dark, LEVEL_PROBABILITIES)
    equal = np.full(len(LEVEL_PROBABILITIES), 7.0)
    found = brightest_level([quantiles, alone, equal], LEVEL_PROBABILITIES)
    assert abs(found[0] - 300) < 3
    assert abs(found[1] - 100) < 6
    assert np.isnan(found[2])
    assert abs(brightest_level([coarse])[0] - 300) < 10
