"""Laws of the walk down the noise levels."""

import pytest

from ddgm_dist.baselines.noise_levels import check_fraction, check_sigma_y, walk
from ddgm_dist.errors import InputError


def test_it_visits_every_level_and_ends_at_zero():
    assert list(walk([3.0, 1.0, 0.2])) == [(0, 3.0, 1.0), (1, 1.0, 0.2), (2, 0.2, 0.0)]
    assert list(walk([0.5])) == [(0, 0.5, 0.0)]


@pytest.mark.parametrize(
    ("sigma", "why"),
    [
        ((), "at least one"),
        ((1.0, 1.0), "decrease"),
        ((1.0, 2.0), "decrease"),
        ((1.0, 0.0), "positive"),
        ((float("inf"), 1.0), "positive"),
        ((float("nan"),), "positive"),
    ],
)
def test_levels_that_do_not_lead_down_are_refused(sigma, why):
    with pytest.raises(InputError, match=why) as caught:
        walk(sigma)
    assert caught.value.argument == "sigma"


def test_fractions_and_noise_levels_are_checked_by_name():
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="zeta"):
            check_fraction("zeta", value)
    check_fraction("zeta", 0.0)
    check_sigma_y(0.0, zero=True)
    for value, zero in ((0.0, False), (-1.0, True), (float("inf"), True)):
        with pytest.raises(InputError, match="sigma_y"):
            check_sigma_y(value, zero=zero)
