"""Negative log-likelihoods and their slopes."""

import math

import pytest
import torch
from torch import Tensor

from ddgm_dist.algorithm.likelihood import GaussianLikelihood, Likelihood, PoissonLikelihood
from ddgm_dist.errors import InputError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


COUNTS = torch.poisson(torch.full((3, 4, 5), 2.0), generator=generator())
MASK = (torch.rand(3, 1, 5, generator=generator(1)) > 0.3).float()
SIGMA = torch.rand(3, 4, 5, generator=generator(2)).double() + 0.5
CASES = {
    "Gaussian": GaussianLikelihood(COUNTS, 0.7),
    "Gaussian, masked, of unequal noise": GaussianLikelihood(COUNTS, SIGMA, MASK),
    "Poisson": PoissonLikelihood(COUNTS),
    "Poisson, masked": PoissonLikelihood(COUNTS, MASK),
}
cases = pytest.mark.parametrize("likelihood", CASES.values(), ids=CASES.keys())


@cases
def test_the_slope_is_the_values_derivative(likelihood: Likelihood):
    prediction = 0.5 + 3 * torch.rand(3, 4, 5, generator=generator(3), dtype=torch.float64)
    direction = torch.randn(3, 4, 5, generator=generator(4), dtype=torch.float64)
    h = 1e-5
    there, back = (likelihood.value(prediction + s * h * direction) for s in (1, -1))
    slope = float((likelihood.slope(prediction) * direction).sum())
    assert slope == pytest.approx((there - back) / (2 * h), rel=1e-6)
    assert abs(slope) > 0.1


@cases
def test_nothing_is_likelier_than_the_data_themselves(likelihood: Likelihood):
    assert likelihood.value(COUNTS + 1e-12) == pytest.approx(0, abs=1e-6)
    assert likelihood.value(COUNTS + 0.1) > 1e-3


def test_poisson_differs_from_the_distributions_by_a_constant():
    rates = torch.tensor([0.5, 2.0, 7.0])[:, None, None].expand(3, 4, 5)
    other = rates.flip(0)
    exact = [
        float((rate - COUNTS * rate.log() + torch.lgamma(COUNTS + 1)).double().sum())
        for rate in (rates, other)
    ]
    ours = [PoissonLikelihood(COUNTS).value(rate) for rate in (rates, other)]
    assert ours[0] - ours[1] == pytest.approx(exact[0] - exact[1], rel=1e-5)


def test_a_rate_that_underflowed_is_no_accident():
    zero = torch.zeros(2, 1, 1)
    assert torch.equal(PoissonLikelihood(zero).slope(zero), torch.ones(2, 1, 1))
    seen = PoissonLikelihood(zero + 1)
    assert seen.value(zero) == math.inf
    assert bool(torch.isfinite(seen.slope(zero)).all())


@pytest.mark.parametrize("kind", ["Gaussian", "Poisson"])
@pytest.mark.parametrize("shape", [(3, 4), (4, 4, 5), (1, 3, 4, 5), (3, 4, 2)])
def test_a_mask_that_does_not_fit_the_data_is_refused(kind: str, shape: tuple[int, ...]):
    mask = torch.ones(shape)
    with pytest.raises(InputError, match=r"measured = .*does not fit the data"):
        GaussianLikelihood(COUNTS, 1.0, mask) if kind == "Gaussian" else PoissonLikelihood(
            COUNTS, mask
        )


def bad() -> list[tuple[str, Tensor]]:
    return [("negative", COUNTS - 9), ("NaN", COUNTS / 0 * 0)]


@pytest.mark.parametrize("counts", [c for _, c in bad()], ids=[n for n, _ in bad()])
def test_counts_are_numbers_and_not_negative(counts: Tensor):
    with pytest.raises(InputError, match="counts"):
        PoissonLikelihood(counts)


@pytest.mark.parametrize("sigma_y", [0.0, -1.0, math.nan])
def test_noise_is_positive(sigma_y: float):
    with pytest.raises(InputError, match="sigma_y"):
        GaussianLikelihood(COUNTS, sigma_y)
