"""Laws of the plug-and-play methods."""

import pytest
import torch

from ddgm_dist.algorithm.schedule import noise_levels
from ddgm_dist.baselines.gradient import gradient_descent
from ddgm_dist.baselines.least_squares import constant, negative_gradient, proximal
from ddgm_dist.baselines.plug_and_play import dpir, pnp_pgd
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.basis import norm_squared


def nothing(x, sigma, n):
    return x


def test_without_a_denoiser_pgd_is_gradient_descent(toy):
    eta = 1 / norm_squared(toy.operator.geometry)
    x = pnp_pgd(toy.operator, toy.data, denoise=nothing, sigma=1.0, step_size=eta, steps=12)
    [(_, expected)] = gradient_descent(toy.operator, toy.data, [12], eta, impute_every=1)
    assert float((x - expected).norm()) < 1e-5 * float(x.norm())


def test_with_a_shrinking_denoiser_pgd_ends_at_the_ridge_solution(toy):
    eta, shrink = 1 / norm_squared(toy.operator.geometry), 0.97
    told = []

    def denoise(x, sigma, n):
        told.append((sigma, n))
        return shrink * x

    x = pnp_pgd(toy.operator, toy.data, denoise=denoise, sigma=0.4, step_size=eta, steps=500)
    rho = (1 - shrink) / (shrink * eta)
    expected = proximal(toy.operator, toy.data, torch.zeros_like(x), rho, iterations=60)
    assert float((x - expected).norm()) < 1e-3 * float(x.norm())
    assert told == [(0.4, n) for n in range(500)]


def test_a_level_of_dpir_is_a_proximal_map_and_a_denoising(toy):
    told = []

    def denoise(x, sigma, n):
        told.append((sigma, n))
        return 0.5 * x + 0.1

    z = dpir(
        toy.operator, toy.data, denoise=denoise, sigma=[2.0, 0.5], sigma_y=0.7, lam=0.3, inner=60
    )
    expected = constant(toy.operator, toy.data)
    for sigma in (2.0, 0.5):
        alpha = 0.3 * 0.7**2 / sigma**2
        expected = proximal(toy.operator, toy.data, expected, alpha, iterations=60)
        expected = 0.5 * expected + 0.1
    assert float((z - expected).norm()) < 1e-3 * float(z.norm())
    assert told == [(2.0, 0), (0.5, 1)]


def test_a_given_estimate_is_what_both_begin_from(toy):
    start = toy.truth + 0.3
    x = pnp_pgd(
        toy.operator, toy.data, denoise=nothing, sigma=1.0, step_size=1e-3, steps=1, start=start
    )
    expected = start + 1e-3 * negative_gradient(toy.operator, toy.data, start)
    assert torch.equal(x, expected)
    z = dpir(
        toy.operator, toy.data, denoise=nothing, sigma=[0.5], sigma_y=0.7, lam=0.3, start=start
    )
    alpha = 0.3 * 0.7**2 / 0.5**2
    assert torch.equal(z, proximal(toy.operator, toy.data, start, alpha, iterations=5))


def test_a_data_step_of_ones_own_takes_the_place_of_the_proximal_map(toy):
    told = []

    def data_step(z, alpha):
        told.append(alpha)
        return z + 1.0

    z = dpir(
        toy.operator,
        toy.data,
        denoise=lambda x, sigma, n: 2.0 * x,
        sigma=[2.0, 0.5],
        sigma_y=0.7,
        lam=0.3,
        data_step=data_step,
    )
    assert torch.equal(z, torch.full_like(z, 6.0))
    assert told == [pytest.approx(0.3 * 0.7**2 / sigma**2) for sigma in (2.0, 0.5)]


def test_dpir_recovers_what_is_seen_and_trusts_the_prior_for_the_rest(whole, seen):
    def denoise(x, sigma, n):
        """Knows what the operator does not see, and nothing else."""
        return whole.truth + seen(whole.operator, x - whole.truth, 0.05)

    z = dpir(
        whole.operator,
        whole.noiseless,
        denoise=denoise,
        sigma=noise_levels("exponential", 2.0, 0.05, 5),
        sigma_y=1e-4,
    )
    assert float((z - whole.truth).norm()) < 1e-3 * float(whole.truth.norm())


def test_values_that_cannot_work_are_refused(whole):
    problem = whole.operator, whole.data
    for wrong in ({"step_size": 0.0}, {"sigma": 0.0}):
        arguments = {"step_size": 0.1, "sigma": 1.0} | wrong
        with pytest.raises(InputError) as caught:
            pnp_pgd(*problem, denoise=nothing, steps=1, **arguments)
        assert caught.value.argument == next(iter(wrong))
    for wrong in ({"sigma_y": 0.0}, {"lam": 0.0}, {"sigma": (1.0, 2.0)}):
        arguments = {"sigma_y": 1.0, "lam": 1.0, "sigma": (1.0,)} | wrong
        with pytest.raises(InputError) as caught:
            dpir(*problem, denoise=nothing, **arguments)
        assert caught.value.argument == next(iter(wrong))
