"""Laws of line integrals from counts."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from ddgm_dist.errors import InputError
from ddgm_dist.views.counts import line_integrals


def test_absorption_comes_back_from_counts() -> None:
    true = np.random.default_rng(0).uniform(0, 3, size=(20, 30))
    found, low = line_integrals(500 * np.exp(-true), 500)
    np.testing.assert_allclose(found, true, atol=1e-6)
    assert low == 0
    # With dark counts and an uneven flat field, and a beam that became weaker by 10 %.
    dark = np.full((20, 30), 100.0)
    flat = dark + np.linspace(300, 600, 30)
    counts = dark + 0.9 * (flat - dark) * np.exp(-true)
    np.testing.assert_allclose(line_integrals(counts, 0.9, dark, flat)[0], true, atol=1e-6)
    np.testing.assert_allclose(line_integrals(counts - dark, 450, None)[0][:, 0] > 0, True)
    only_log, _ = line_integrals(np.exp(-true), 1)
    np.testing.assert_allclose(only_log, true, atol=1e-6)


def test_counts_too_low_are_floored_and_counted() -> None:
    counts = np.array([[0, -3, 1, 50], [0.2, 100, np.nan, np.inf]])
    found, low = line_integrals(counts, 100, floor=0.5)
    floor = -np.log(0.5 / 100)
    expected = [[floor, floor, -np.log(0.01), -np.log(0.5)], [floor, 0, np.nan, np.nan]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert low == 3
    # Half of a quantum of 4 counts, and a share of the white field if nothing is known.
    np.testing.assert_allclose(line_integrals([[0.0]], 100, gain=4)[0], -np.log(0.02), rtol=1e-6)
    np.testing.assert_allclose(line_integrals([[0.0]], 100)[0], -np.log(1e-4), rtol=1e-6)
    assert line_integrals([[-np.inf, 1.0]], 100)[1] == 0
    integers = np.array([[0, 10]], dtype=np.int16)
    assert line_integrals(integers, 10, floor=1)[1] == 1


def test_dead_pixels_are_unmeasured() -> None:
    flat = np.array([[10.0, 5.0, 4.0, np.nan]])
    found, low = line_integrals(np.full((1, 4), 7.0), 1, dark=[[5.0] * 4], flat=flat)
    np.testing.assert_allclose(found[0, 0], -np.log(2 / 5), rtol=1e-6)
    assert np.isnan(found[0, 1:]).all()
    assert low == 0


def test_air_beside_a_tooth_absorbs_nothing(shared_data: Path) -> None:
    with h5py.File(shared_data / "xray_tilt" / "tooth.h5") as file:
        views = file["exchange/data"][::30]
        dark = file["exchange/data_dark"][:].mean(axis=0)
        flat = file["exchange/data_white"][:].mean(axis=0)
    for view in views:
        found, low = line_integrals(view, 1, dark, flat)
        assert low == 0
        # The last columns see air in all views; the tooth's middle is dark.
        assert abs(np.median(found[:, -40:])) < 0.03
        assert np.quantile(found, 0.9) > 1


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(InputError, match="counts = 0: the incident level"):
        line_integrals([[1.0]], 0)
    with pytest.raises(InputError, match="floor = 0"):
        line_integrals([[1.0]], 1, floor=0)
    with pytest.raises(InputError, match="gain = -1"):
        line_integrals([[1.0]], 1, gain=-1)
