"""Descent through an operator that is not linear."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ddgm_dist.algorithm.descent import explicit_descent
from ddgm_dist.algorithm.likelihood import GaussianLikelihood, PoissonLikelihood
from ddgm_dist.algorithm.nonlinear import Differentiable, Linear, nonlinear_descent
from ddgm_dist.algorithm.schedule import make_schedule, noise_levels
from ddgm_dist.errors import InputError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


M = torch.randn(7, 5, generator=generator(), dtype=torch.float64)
X = torch.randn(5, 1, generator=generator(1), dtype=torch.float64)
B = torch.randn(7, 1, generator=generator(2), dtype=torch.float64)
ETA = float(1 / torch.linalg.matrix_norm(M, 2) ** 2)


class Matrix:
    def A(self, x: Tensor) -> Tensor:
        return M @ x

    def T(self, y: Tensor) -> Tensor:
        return M.mT @ y


def rate(x: Tensor) -> Tensor:
    return 5 * torch.exp(M @ x / 3)


@pytest.mark.parametrize("steps", [0, 1, 3.25, 40])
@pytest.mark.parametrize("sigma_y", [0.5, 4.0])
def test_linear_and_gaussian_it_is_explicit_descent(steps: float, sigma_y: float):
    expected = explicit_descent(Matrix(), X, B, steps, ETA)
    likelihood = GaussianLikelihood(B, sigma_y)
    for operator in (Linear(Matrix().A, Matrix().T), Differentiable(Matrix().A)):
        got = nonlinear_descent(operator, likelihood, X, steps, ETA * sigma_y**2)
        assert torch.allclose(got, expected, rtol=1e-9)


def test_the_cap_on_flow_time_is_that_of_the_linear_rule():
    common = {
        "N": 9,
        "K": 25,
        "sigma": noise_levels("exponential", 3, 0.03, 9),
        "rule": "noise-aware",
        "data_weight_cap": 2,
    }
    linear = make_schedule(**common, step_size=ETA, sigma_y=0.4)
    likely = make_schedule(**common, step_size=ETA * 0.4**2, sigma_y=1.0)
    assert likely.steps == pytest.approx(linear.steps)
    assert linear.steps[0] == 25
    assert linear.steps[-1] < 1


def test_automatic_differentiation_agrees_with_differences():
    prediction, pull = Differentiable(rate).vjp(X)
    v = torch.randn(7, 1, generator=generator(3), dtype=torch.float64)
    d = torch.randn(5, 1, generator=generator(4), dtype=torch.float64)
    h = 1e-6
    jd = (rate(X + h * d) - rate(X - h * d)) / (2 * h)
    assert torch.equal(prediction, rate(X))
    assert not prediction.requires_grad
    assert float((pull(v) * d).sum()) == pytest.approx(float((v * jd).sum()), rel=1e-6)


@pytest.mark.parametrize("step_size", [1e-3, 1.0, 1e3])
def test_it_never_rises_whatever_the_step(step_size: float):
    counts = torch.poisson(rate(X), generator=generator(5))
    likelihood, x, values = PoissonLikelihood(counts), torch.zeros_like(X), []
    for _ in range(20):
        values.append(likelihood.value(rate(x)))
        x = nonlinear_descent(Differentiable(rate), likelihood, x, 1.5, step_size)
    assert all(b <= a * (1 + 1e-8) for a, b in pairwise(values))
    assert values[-1] < 0.9 * values[0]


def test_at_the_minimum_it_stays():
    likelihood = PoissonLikelihood(rate(X))
    got = nonlinear_descent(Differentiable(rate), likelihood, X, 5, 1e-3)
    assert torch.allclose(got, X, atol=1e-9)


def test_what_cannot_be_differentiated_is_refused():
    with pytest.raises(InputError, match="torch can differentiate"):
        Differentiable(lambda x: x.detach() * 2).vjp(X)


def test_a_step_is_positive():
    with pytest.raises(InputError, match="step_size"):
        nonlinear_descent(Differentiable(rate), PoissonLikelihood(B.abs()), X, 1, 0.0)
