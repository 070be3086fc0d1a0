"""Laws of gradient descent with early stopping."""

from itertools import pairwise

import pytest
import torch

from ddgm_dist.algorithm.descent import explicit_descent
from ddgm_dist.baselines.gradient import gradient_descent
from ddgm_dist.baselines.least_squares import misfit


def step_size(toy) -> float:
    return 1 / float(toy.operator.basis.values.max())


def test_where_all_is_measured_it_is_that_many_steps(whole):
    operator, eta = whole.operator, step_size(whole)
    zero = torch.zeros_like(whole.truth)
    for K, x in gradient_descent(operator, whole.data, (1, 7, 40), eta):
        expected = explicit_descent(operator, zero, whole.data.stretched, K, eta)
        assert torch.allclose(x, expected, atol=1e-4)
        assert float((x - zero).norm()) > 0.1 * float(whole.truth.norm())


@pytest.mark.parametrize("impute_every", [1, 5, 13])
def test_the_measured_error_never_rises(toy, impute_every):
    found = [
        misfit(toy.operator, toy.data, x)
        for _, x in gradient_descent(
            toy.operator, toy.data, range(1, 60, 3), step_size(toy), impute_every=impute_every
        )
    ]
    assert all(after <= before * (1 + 1e-5) for before, after in pairwise(found))
    assert found[-1] < 0.5 * found[0]


def test_imputed_at_every_step_it_is_masked_descent(toy):
    if toy.operator.background:
        pytest.skip("A is affine there, explicit descent takes a linear one")
    operator, eta = toy.operator, step_size(toy)
    ((_, x),) = gradient_descent(operator, toy.data, [9], eta, impute_every=1)
    zero = torch.zeros_like(toy.truth)
    measured = toy.data.measured
    expected = explicit_descent(operator, zero, toy.data.stretched, 9, eta, measured=measured)
    assert torch.allclose(x, expected, atol=1e-4)


def test_where_it_stops_does_not_change_its_way(toy):
    """Stops at multiples of the runs between imputations."""
    eta = step_size(toy)
    often = dict(gradient_descent(toy.operator, toy.data, range(5, 41, 5), eta))
    ((_, last),) = gradient_descent(toy.operator, toy.data, [40], eta)
    assert torch.allclose(often[40], last, atol=1e-5)
