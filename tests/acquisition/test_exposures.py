"""Doses of all views where the files have only some of them."""

from __future__ import annotations

import numpy as np
import pytest

from ddgm_dist.acquisition.exposures import find_exposures

ANGLES = [30.0, -60.0, 0.0, -30.0, 60.0]
DOSES = [2.0, 4.0, 1.0, 2.0, 4.0]
EVEN = [1.0] * 5


def without(values, *views):
    return [None if i in views else value for i, value in enumerate(values)]


def test_doses_that_all_views_have_count_before_times():
    found = find_exposures(DOSES, EVEN, ANGLES)
    assert (found.values, found.what, found.filled) == (tuple(DOSES), "dose", ())


@pytest.mark.parametrize("missing", [None, 0.0, np.nan, -1.0])
def test_a_dose_that_one_view_lacks_is_interpolated_and_not_given_up(missing):
    doses = [2.0, 4.0, missing, 2.0, 4.0]
    found = find_exposures(doses, EVEN, ANGLES)
    assert found.what == "dose"
    assert found.filled == (2,)
    np.testing.assert_allclose(found.values, [2, 4, 2, 2, 4])


def test_between_two_angles_the_logarithm_is_interpolated():
    found = find_exposures([1.0, None, 4.0], [None] * 3, [0.0, 10.0, 20.0])
    np.testing.assert_allclose(found.values, [1, 2, 4])


def test_times_fill_in_where_the_doses_follow_them():
    times = [0.5 * dose for dose in DOSES]
    found = find_exposures(without(DOSES, 1, 2), times, ANGLES)
    assert (found.filled, found.how) == ((1, 2), "the exposure times")
    np.testing.assert_allclose(found.values, DOSES)


def test_without_any_dose_the_times_count_and_are_filled_in():
    found = find_exposures([None] * 5, DOSES, ANGLES)
    assert (found.values, found.what, found.filled) == (tuple(DOSES), "exposure time", ())
    found = find_exposures([0.0] * 5, without(DOSES, 4), ANGLES)
    assert (found.filled, found.values[4]) == ((4,), pytest.approx(2.0))


def test_nothing_known_is_none():
    assert find_exposures([None] * 5, [0.0] * 5, ANGLES) is None
