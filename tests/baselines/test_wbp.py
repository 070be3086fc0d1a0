"""Laws of weighted back-projection."""

import math
from dataclasses import replace

import pytest
import torch

from ddgm_dist.baselines.wbp import angular_weights, weighted_back_projection
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator

ALL_ROUND = Geometry(tuple(float(a) for a in range(-84, 85)), 32, 1, 96)
windows = pytest.mark.parametrize("window", ["ram-lak", "cosine", "hann"])


def everything(operator, x):
    return SlabData(operator.A(x), torch.ones(1, 1, 1))


def ripple(k: float, kappa_z: float) -> torch.Tensor:
    """A wave packet whose transform lies within 0.8 of (kappa_z, k)."""
    z, x = torch.arange(32.0)[:, None] - 15.5, torch.arange(96.0) - 40
    packet = torch.cos(k * x + kappa_z * z) * torch.exp(-(z**2 + x**2) / (2 * 4.5**2))
    return packet[:, None]


@pytest.mark.parametrize(("k", "kappa_z"), [(1.0, 0.0), (0.9, 0.5), (1.4, -0.9)])
def test_from_all_angles_it_recovers_what_is_in_the_band(k, kappa_z):
    operator = SlabOperator(ALL_ROUND, (0, 96))
    x = ripple(k, kappa_z)
    got = weighted_back_projection(operator, everything(operator, x))
    assert float((got - x).norm()) < 0.01 * float(x.norm())


@windows
def test_a_window_is_a_factor_at_the_detectors_frequency(window):
    operator = SlabOperator(ALL_ROUND, (0, 96))
    x = ripple(1.3, 0.6)
    got = weighted_back_projection(operator, everything(operator, x), window=window)
    w = math.hypot(1.3, 0.6)
    factor = {"ram-lak": 1.0, "cosine": math.cos(w / 2), "hann": (1 + math.cos(w)) / 2}[window]
    assert float((got * x).sum() / (x * x).sum()) == pytest.approx(factor, rel=0.03)


@windows
def test_it_is_linear(toy, window):
    def solve(b):
        data = SlabData(b, toy.data.measured)
        return weighted_back_projection(toy.operator, data, window=window)

    a, b = toy.data.stretched, toy.data.stretched.flip(2)
    zero = solve(torch.zeros_like(a))
    combined = solve(2 * a - 3 * b) - zero
    expected = 2 * (solve(a) - zero) - 3 * (solve(b) - zero)
    assert float((combined - expected).norm()) < 1e-5 * float(combined.norm())


def test_shifted_data_are_a_shifted_volume(whole):
    data = whole.data
    rolled = SlabData(data.stretched.roll(5, dims=2), data.measured)
    got = weighted_back_projection(whole.operator, rolled)
    expected = weighted_back_projection(whole.operator, data).roll(5, dims=2)
    assert float((got - expected).norm()) < 1e-5 * float(expected.norm())


def test_the_mean_is_kept(toy):
    operator, level = toy.operator, toy.operator.background + 0.8
    x = torch.full_like(toy.truth, level)
    data = SlabData(operator.A(x), torch.ones(1, 1, 1))
    got = weighted_back_projection(operator, data)
    if operator.length == x.shape[-1]:
        assert torch.allclose(got, x, atol=1e-4)
    else:  # of an object with an end some goes where the wedge is missing
        assert float(got.mean()) - operator.background > 0.4


def test_vacuum_stays_vacuum(toy):
    x = torch.full_like(toy.truth, toy.operator.background)
    data = SlabData(toy.data.measured * toy.operator.A(x), toy.data.measured)
    assert torch.allclose(weighted_back_projection(toy.operator, data), x, atol=1e-5)


def test_angular_weights_fill_the_range_in_any_order():
    weights = angular_weights((math.radians(30), 0.0, math.radians(10), math.radians(-10)))
    expected = torch.tensor([20.0, 10.0, 15.0, 10.0], dtype=torch.float64).deg2rad()
    assert torch.allclose(weights, expected)


def test_what_it_cannot_do_is_refused(whole):
    with pytest.raises(InputError, match="none of ram-lak, cosine, hann") as caught:
        weighted_back_projection(whole.operator, whole.data, window="box")
    assert caught.value.argument == "window"
    one = replace(whole.operator.geometry, angles_deg=(10.0,))
    operator = SlabOperator(one, (0, 16))
    with pytest.raises(InputError, match="two different"):
        weighted_back_projection(operator, SlabData(torch.zeros(1, 2, 16), torch.ones(1, 1, 1)))
