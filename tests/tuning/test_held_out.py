"""Held-out projections: what they tell of an error, and that their noise is taken off."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.operators.slab.operator import SlabOperator
from ddgm_dist.tuning.held_out import held_out_error

GEOMETRY = Geometry(angles_deg=tuple(range(-60, 61, 10)), thickness=48, rows=24, field=512)


def errors(operator: SlabOperator, data, residual, sigma_y: float):
    found = [
        held_out_error(residual[t], data.measured[t], angle, GEOMETRY.thickness, sigma_y)
        for t, angle in enumerate(GEOMETRY.angles)
    ]
    assert all(f is not None for f in found)
    return found


@pytest.fixture(scope="module")
def operator() -> SlabOperator:
    return SlabOperator(GEOMETRY)


def test_an_isotropic_error_is_its_mean_square(operator: SlabOperator) -> None:
    first, last = operator.columns
    draw = np.random.default_rng(0).standard_normal((48 + 32, 24, last - first))
    e = gaussian_filter(draw, (1.5, 0, 1.5), mode="wrap")[16:64]
    e = torch.from_numpy(0.3 * e / e.std()).float()
    zero = torch.zeros(GEOMETRY.tilts, GEOMETRY.rows, GEOMETRY.field)
    data = operator.prepare(zero)
    found = errors(operator, data, data.measured * operator.A(e), 0.0)
    assert np.mean([f.error for f in found]) == pytest.approx(0.09, rel=0.1)
    assert all(f.misfit is None for f in found)


def test_noise_alone_is_no_error_and_a_misfit_of_one(operator: SlabOperator) -> None:
    noise = torch.from_numpy(np.random.default_rng(1).standard_normal((13, 24, 512))).float()
    data = operator.prepare(5 * noise)
    found = errors(operator, data, data.stretched, 5.0)
    floor = 25 * math.pi / (4 * GEOMETRY.thickness)  # what it would be if it were not taken off
    assert np.mean([f.error for f in found]) == pytest.approx(0.0, abs=0.03 * floor)
    assert np.mean([f.misfit for f in found]) == pytest.approx(1.0, abs=0.03)


def test_a_tilt_of_few_measured_columns_tells_nothing() -> None:
    measured = torch.zeros(1, 100)
    measured[:, 40:55] = 1
    assert held_out_error(torch.ones(2, 100), measured, 0.0, 8, 0.0) is None
    measured[:, 40:56] = 1
    assert held_out_error(torch.ones(2, 100), measured, 0.0, 8, 0.0) is not None
