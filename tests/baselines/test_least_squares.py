"""Laws of the shared data term."""

import pytest
import torch

from ddgm_dist.baselines.least_squares import (
    constant,
    first_estimate,
    misfit,
    negative_gradient,
    proximal,
    resolvent,
)
from ddgm_dist.errors import InputError


def test_modes_are_orthonormal_and_diagonalise_the_operator(whole):
    operator, x = whole.operator, whole.truth
    modes = operator.to_modes(x)
    assert torch.allclose(operator.from_modes(modes), x, atol=1e-5)
    G = operator.from_modes(operator.basis.values[:, :, None].float() * modes)
    expected = operator.T(operator.A(x))
    assert float((G - expected).norm()) < 1e-5 * float(expected.norm())


def test_the_linear_part_is_a_difference(toy):
    x, y = toy.truth, constant(toy.operator, toy.data, 1.5)
    difference = toy.operator.A(x) - toy.operator.A(y)
    assert torch.allclose(toy.operator.A_linear(x - y), difference, atol=1e-4)


def test_the_first_estimate_is_a_value_everywhere_or_the_volume_given(toy):
    ones = first_estimate(toy.operator, toy.data, 1.5)
    assert torch.equal(ones, constant(toy.operator, toy.data, 1.5))
    assert first_estimate(toy.operator, toy.data, toy.truth) is toy.truth
    with pytest.raises(InputError, match="shape") as caught:
        first_estimate(toy.operator, toy.data, toy.truth[:, :1])
    assert caught.value.argument == "start"


def test_the_gradient_is_that_of_the_misfit(toy):
    x = constant(toy.operator, toy.data, 0.3)
    p = 1e-2 * toy.truth
    up, down = (misfit(toy.operator, toy.data, x + sign * p) for sign in (1, -1))
    slope = -float((negative_gradient(toy.operator, toy.data, x) * p).sum())
    assert (up - down) / 2 == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize("rho", [0.05, 1.0, 100.0])
def test_the_proximal_map_is_optimal(toy, rho):
    v = torch.randn(toy.truth.shape, generator=torch.Generator().manual_seed(7))
    x = proximal(toy.operator, toy.data, v, rho, iterations=60)
    pull = negative_gradient(toy.operator, toy.data, x)
    first = negative_gradient(toy.operator, toy.data, v)
    assert float((pull + rho * (v - x)).norm()) < 1e-4 * float(first.norm())
    for row in range(2):
        SA, Sb = toy.masked(row)
        H = SA.T @ SA + rho * torch.eye(SA.shape[1])
        expected = torch.linalg.solve(H, SA.T @ Sb + rho * toy.rows(v)[:, row])
        error = toy.rows(x)[:, row] - expected
        assert float(error.norm()) < 2e-3 * float(expected.norm())


@pytest.mark.parametrize("rho", [0.1, 3.0])
def test_one_iteration_is_the_closed_form_where_all_is_measured(whole, rho):
    v = torch.zeros_like(whole.truth)
    x = proximal(whole.operator, whole.data, v, rho, iterations=1)
    closed = resolvent(whole.operator, negative_gradient(whole.operator, whole.data, v), rho)
    assert float((x - closed).norm()) < 1e-5 * float(x.norm())
    H = negative_gradient(whole.operator, whole.data, x) + rho * (v - x)
    assert float(H.norm()) < 1e-4 * float(whole.operator.T(whole.data.stretched).norm())


@pytest.mark.parametrize("rho", [0.05, 5.0])
def test_few_iterations_leave_little_to_gain(toy, rho):
    def objective(x):
        return misfit(toy.operator, toy.data, x) + rho / 2 * float(x.square().sum())

    v = torch.zeros_like(toy.truth)
    best = objective(proximal(toy.operator, toy.data, v, rho, iterations=100))
    excess = objective(proximal(toy.operator, toy.data, v, rho, iterations=5)) - best
    assert excess < 1e-2 * (objective(v) - best)


def test_a_warm_start_leads_to_the_same_place(toy):
    v = torch.zeros_like(toy.truth)
    cold = proximal(toy.operator, toy.data, v, 5.0, iterations=60)
    warm = proximal(toy.operator, toy.data, v, 5.0, start=toy.truth, iterations=60)
    assert float((cold - warm).norm()) < 1e-3 * float(cold.norm())


def test_values_that_cannot_work_are_refused(whole):
    for rho in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="cgls") as caught:
            proximal(whole.operator, whole.data, whole.truth, rho)
        assert caught.value.argument == "rho"
    with pytest.raises(InputError, match="at least one"):
        proximal(whole.operator, whole.data, whole.truth, 1.0, iterations=0)
