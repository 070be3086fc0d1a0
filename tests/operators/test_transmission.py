"""Counts behind an absorbing specimen."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ddgm_dist.algorithm.likelihood import PoissonLikelihood
from ddgm_dist.algorithm.nonlinear import Differentiable, nonlinear_descent
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.basis import norm_squared
from ddgm_dist.operators.slab.interpolated import InterpolatedOperator
from ddgm_dist.operators.transmission import Transmission, log_linearise


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


GEOMETRY = Geometry(tuple(float(a) for a in range(-60, 61, 20)), 8, 2, 24)
PROJECTOR = InterpolatedOperator(GEOMETRY)
FLAT = 20 + 10 * torch.rand(1, 1, 24, generator=generator(9))
BACKGROUND = torch.linspace(0.5, 1.5, 7)[:, None, None]
OPERATOR = Transmission(PROJECTOR, FLAT, background=BACKGROUND, scale=0.1)
SHAPE = (8, 2, PROJECTOR.columns[1] - PROJECTOR.columns[0])
X = torch.randn(SHAPE, generator=generator())


def test_it_is_beer_lamberts_law():
    empty = OPERATOR.A(torch.zeros(SHAPE))
    assert torch.allclose(empty, (FLAT * torch.exp(-BACKGROUND)).expand_as(empty))
    halved = Transmission(PROJECTOR, FLAT, background=BACKGROUND + 0.6931472, scale=0.1)
    assert torch.allclose(halved.A(X), OPERATOR.A(X) / 2, rtol=1e-5)


def test_the_vector_jacobian_product_agrees_with_differences():
    counts, pull = OPERATOR.vjp(X)
    v = torch.randn(counts.shape, generator=generator(1))
    d = torch.randn(SHAPE, generator=generator(2))
    h = 1e-2
    jd = (OPERATOR.A(X + h * d).double() - OPERATOR.A(X - h * d).double()) / (2 * h)
    expected = float((v * jd).sum())
    assert float((pull(v) * d).double().sum()) == pytest.approx(expected, rel=1e-3)
    assert abs(expected) > 1


def test_the_vector_jacobian_product_is_that_of_automatic_differentiation():
    counts, pull = OPERATOR.vjp(X)
    other, automatic = Differentiable(OPERATOR.A).vjp(X)
    v = torch.randn(counts.shape, generator=generator(1))
    assert torch.equal(counts, other)
    assert torch.allclose(pull(v), automatic(v), atol=1e-4 * float(pull(v).abs().max()))


def measured_counts() -> Tensor:
    return torch.poisson(OPERATOR.A(X), generator=generator(3))


def test_the_poisson_likelihood_descends_to_where_the_counts_are_explained():
    counts = measured_counts()
    likelihood, x = PoissonLikelihood(counts), torch.zeros(SHAPE)
    eta = OPERATOR.step_size(counts, norm_squared(GEOMETRY))
    values = []
    for _ in range(12):
        values.append(likelihood.value(OPERATOR.A(x)))
        x = nonlinear_descent(OPERATOR, likelihood, x, 5, eta)
    assert all(b < a for a, b in pairwise(values))
    # Half the deviance of n counts is about n / 2.
    assert values[-1] < counts.numel() / 2 < values[0]


def test_the_step_is_that_of_the_largest_curvature():
    counts = torch.ones(7, 2, 24)
    counts[3] = 5.0
    eta = OPERATOR.step_size(counts, 40.0)
    assert eta == pytest.approx(1 / (0.1**2 * 5 * 40))


def test_with_many_counts_the_logarithm_is_linear():
    bright = Transmission(PROJECTOR, 1e6 * FLAT, background=BACKGROUND, scale=0.1)
    integrals, sigma = log_linearise(torch.poisson(bright.A(X), generator=generator(4)), 1e6 * FLAT)
    expected = BACKGROUND + 0.1 * PROJECTOR.A(X)
    z = (integrals - expected) / sigma
    assert float(z.mean()) == pytest.approx(0, abs=0.15)
    assert float(z.std()) == pytest.approx(1, abs=0.15)


def test_few_counts_have_a_logarithm_that_is_finite():
    integrals, sigma = log_linearise(torch.tensor([0.0, 1.0, 20.0]), 20.0)
    assert torch.allclose(integrals, torch.log(torch.tensor([40.0, 20.0, 1.0])))
    assert torch.allclose(sigma, torch.tensor([0.5, 1.0, 20.0]).rsqrt())


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda: Transmission(PROJECTOR, 0.0), "blank"),
        (lambda: Transmission(PROJECTOR, torch.tensor([1.0, -1.0])), "blank"),
        (lambda: Transmission(PROJECTOR, 1.0, scale=0.0), "scale"),
        (lambda: OPERATOR.step_size(torch.zeros(7, 2, 24), 1.0), "nothing was counted"),
        (lambda: log_linearise(torch.ones(3), 1.0, least=0.0), "least"),
    ],
)
def test_what_cannot_be_is_refused(use, words: str):
    with pytest.raises(InputError, match=words):
        use()
