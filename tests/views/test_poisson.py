"""Laws of the noise that quanta cause."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ddgm_dist.errors import InputError
from ddgm_dist.views.counts import line_integrals
from ddgm_dist.views.poisson import estimate_gain, poisson_sigma
from tests.views.slab import counts, tissue


@pytest.mark.parametrize("gain", [0.2, 1.0, 37.0])
def test_the_gain_is_the_variance_over_the_mean(gain: float) -> None:
    views = counts(tissue(), 100)
    found = estimate_gain(gain * views + 12.0, dark=12.0)
    assert found is not None
    assert abs(found.value / gain - 1) < 0.15
    assert found.exponent is not None
    assert abs(found.exponent - 1) < 0.3


def test_noise_that_is_not_of_quanta_gives_no_gain() -> None:
    rng = np.random.default_rng(0)
    ramp = np.linspace(100, 1000, 256)[None, :] * np.ones((64, 1))
    assert estimate_gain([ramp + rng.normal(0, 5, ramp.shape)]) is None
    assert estimate_gain([ramp * (1 + 0.05 * rng.normal(size=ramp.shape))]) is None
    assert estimate_gain([ramp]) is None
    assert estimate_gain([]) is None
    assert estimate_gain([np.ones((8, 8))]) is None
    # Where the mean is the same everywhere, nothing can be said of how the noise grows.
    even = estimate_gain([rng.poisson(50, size=(64, 64))])
    assert even is not None
    assert even.exponent is None
    assert abs(even.value - 1) < 0.1


def test_unmeasured_pixels_leave_their_square_out() -> None:
    rng = np.random.default_rng(1)
    image = rng.poisson(50, size=(64, 64)).astype(float)
    before = estimate_gain([image])
    image[3, 3] = np.nan
    after = estimate_gain([image])
    assert before is not None
    assert after is not None
    assert abs(after.value / before.value - 1) < 0.05


def test_sigma_is_the_scatter_of_line_integrals() -> None:
    rng = np.random.default_rng(2)
    gain, quanta = 3.0, (400.0, 100.0)
    sigma = poisson_sigma([gain * q for q in quanta], gain)
    for q, s in zip(quanta, sigma, strict=True):
        integrals, low = line_integrals(
            gain * rng.poisson(q, size=(200, 200)), gain * 500, gain=gain
        )
        assert low == 0
        assert abs(integrals.std() / s - 1) < 0.03
    assert poisson_sigma([0.0, -1.0, math.nan]) == (math.inf,) * 3
    with pytest.raises(InputError, match="gain = 0"):
        poisson_sigma([1.0], 0)
