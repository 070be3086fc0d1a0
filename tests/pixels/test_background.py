"""A constant in every pixel: told of a slab by its views' means, of an isolated one by its ends."""

import math

import numpy as np
import pytest

from ddgm_dist.pixels.background import edge_level, fit_background, is_flat

ANGLES = np.deg2rad(np.arange(-60, 61, 4.0))


def means(specimen: float, constant: float, scatter: float = 0.0) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(len(ANGLES))
    return specimen / np.cos(ANGLES) + constant + scatter * noise


@pytest.mark.parametrize("constant", [-60.0, 40.0, 100.0, 5000.0])
def test_the_constant_is_found(constant: float) -> None:
    found = fit_background(means(100, constant, 2.0), ANGLES)
    assert found is not None
    assert found.significant
    assert found.constant == pytest.approx(constant, abs=5)
    assert found.specimen == pytest.approx(100, abs=5)


@pytest.mark.parametrize(("constant", "scatter"), [(0, 0), (0, 5), (15, 5), (-15, 1), (40, 40)])
def test_what_may_be_chance_or_an_uneven_specimen_is_none(constant: float, scatter: float) -> None:
    found = fit_background(means(100, constant, scatter), ANGLES)
    assert found is not None
    assert not found.significant


def test_a_fifth_of_the_views_may_say_anything() -> None:
    values = means(100, 50, 1.0)
    values[::5] = 1e9
    values[3] = math.nan
    found = fit_background(values, ANGLES)
    assert found is not None
    assert found.constant == pytest.approx(50, abs=8)


def test_too_few_or_too_flat_views_tell_nothing() -> None:
    assert fit_background([100.0] * 4, ANGLES[:4]) is None
    narrow = np.deg2rad(np.arange(-20, 21, 2.0))
    assert fit_background(100 / np.cos(narrow), narrow) is None


def test_a_vacuum_is_no_slab() -> None:
    r = np.random.default_rng(0)
    slab = (100 + 10 * r.standard_normal((9, 6, 200))).astype(np.float32)
    needle = 40 + r.standard_normal((9, 6, 200)).astype(np.float32)
    needle[:, 2:4, 60:140] += 500
    assert is_flat(slab)
    assert not is_flat(needle)
    found = edge_level(needle)
    assert found.significant
    assert found.constant == pytest.approx(40, abs=1)
    assert not edge_level(needle - 40).significant
