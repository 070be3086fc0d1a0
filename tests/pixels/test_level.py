"""A constant is told from the vacuum beside a slab where one is seen, else from the views' means."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.pixels.background import vacuum_beside
from ddgm_dist.pixels.level import LevelCheck

ANGLES = np.arange(-60.0, 61, 4.0)
FIELD, THICK = 120, 24


def slab(margin: float, *, counts: float = 3000, at: float = 0.0) -> np.ndarray:
    """Line integrals of a slab that ends so many columns before the field does, from counts."""
    theta, u = np.deg2rad(np.abs(ANGLES))[:, None], np.arange(FIELD) - (FIELD - 1) / 2
    half = FIELD / 2 - margin
    wide, thick = half * np.cos(theta), THICK / 2 * np.sin(theta)
    # Columns that a ray through the rectangle is within, as a share of those at its middle.
    ramp = (wide + thick - np.abs(u - at * np.cos(theta))) / np.maximum(2 * thick, 1e-6)
    lines = 0.7 / np.cos(theta) * np.clip(ramp, 0, 1)
    r = np.random.default_rng(0)
    texture = 1 + 0.05 * r.standard_normal((len(ANGLES), 12, FIELD))
    seen = r.poisson(counts * np.exp(-lines[:, None] * texture))
    return -np.log(np.maximum(seen, 0.5) / counts).astype(np.float32)


def told(data: np.ndarray, boundary: Literal["extended"] | None) -> float | None:
    level = LevelCheck(boundary)
    geometry = Geometry(tuple(ANGLES), THICK, data.shape[1], data.shape[2])
    level.add(torch.from_numpy(data), geometry)
    found = level.constant()
    return None if found is None else found[0]


@pytest.mark.parametrize("boundary", [None, "extended"])
@pytest.mark.parametrize("counts", [12.0, 3000.0])
@pytest.mark.parametrize("margin", [5, 15, 20, 30, 40])
def test_a_slab_beside_a_vacuum_has_no_constant(
    margin: int, counts: float, boundary: Literal["extended"] | None
) -> None:
    assert told(slab(margin, counts=counts), boundary) is None


@pytest.mark.parametrize("margin", [5, 20, 40])
@pytest.mark.parametrize("boundary", [None, "extended"])
@pytest.mark.parametrize("factor", [0.7, 1.1, 3.0])
def test_the_vacuum_tells_by_what_the_beam_is_wrong(
    margin: int, factor: float, boundary: Literal["extended"] | None
) -> None:
    data = slab(margin) + np.float32(np.log(factor))
    assert told(data, boundary) == pytest.approx(np.log(factor), abs=0.02)


@pytest.mark.parametrize("boundary", [None, "extended"])
@pytest.mark.parametrize("factor", [0.6, 3.0])
def test_the_means_of_a_slab_that_fills_the_field_tell_it(
    factor: float, boundary: Literal["extended"] | None
) -> None:
    assert vacuum_beside(slab(-400), np.deg2rad(ANGLES)) is None
    assert told(slab(-400), boundary) is None
    data = slab(-400) + np.float32(np.log(factor))
    assert vacuum_beside(data, np.deg2rad(ANGLES)) is None
    assert told(data, boundary) == pytest.approx(np.log(factor), abs=0.05)


@pytest.mark.parametrize("side", [slice(0, 85), slice(-85, None)])
def test_one_end_is_enough_and_unmeasured_columns_are_none(side: slice) -> None:
    data = slab(20)[..., side] + np.float32(1.0)
    found = vacuum_beside(data, np.deg2rad(ANGLES))
    assert found is not None
    assert found.constant == pytest.approx(1, abs=0.02)
    data[..., :3], data[..., -3:] = np.nan, np.nan
    good = np.isfinite(data)
    filled = np.where(good, data, np.float32(5))
    found = vacuum_beside(filled, np.deg2rad(ANGLES), good)
    assert found is not None
    assert found.constant == pytest.approx(1, abs=0.02)
    full = slab(-400)
    full[..., :3], full[..., -3:] = 0, 0  # what alignment leaves
    assert vacuum_beside(full, np.deg2rad(ANGLES), full != 0) is None


def test_a_filled_or_dead_edge_is_no_vacuum() -> None:
    data = slab(-400)
    data[..., :2] = -3
    assert vacuum_beside(data, np.deg2rad(ANGLES)) is None
