"""Laws of DiffPIR."""

import pytest
import torch

from ddgm_dist.algorithm.schedule import noise_levels
from ddgm_dist.baselines.diffpir import diffpir
from ddgm_dist.baselines.least_squares import proximal
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.operator import SlabData

LEVELS = noise_levels("exponential", 3.0, 0.05, 8)


def poor(x, sigma, n):
    return 0.3 * x + 0.2


def test_without_noise_what_is_seen_is_recovered_whatever_the_prior(whole, seen, noise_of):
    """Up to rho / (rho + s^2) of the prior's error: 3.2e-3 / (3.2e-3 + 0.2^2 ||A||^2) here."""
    operator, truth = whole.operator, whole.truth
    x = diffpir(
        operator, whole.noiseless, denoise=poor, noise=noise_of(truth), sigma=LEVELS, sigma_y=1e-3
    )
    assert float(seen(operator, x - truth, 0.2).norm()) < 2e-3 * float(truth.norm())
    assert float((x - truth).norm()) > 0.1 * float(truth.norm()), "some modes are not seen"


def test_without_noise_it_is_exact_where_the_prior_knows_the_rest(whole, seen, noise_of):
    operator, truth = whole.operator, whole.truth

    def denoise(x, sigma, n):
        return truth + seen(operator, 0.3 * x, 0.2)

    x = diffpir(
        operator,
        whole.noiseless,
        denoise=denoise,
        noise=noise_of(truth),
        sigma=LEVELS,
        sigma_y=1e-3,
    )
    assert float((x - truth).norm()) < 2e-3 * float(truth.norm())


@pytest.mark.parametrize("zeta", [0.0, 0.3, 1.0])
def test_every_state_has_its_noise_level_about_the_estimate(crowd, noise_of, zeta):
    operator, truth = crowd
    data = SlabData(operator.A(truth), truth.new_ones(1, 1, 1))
    told = []

    def denoise(x, sigma, n):
        told.append((sigma, n))
        if n:  # the start is about 0, not the truth
            assert float((x - truth).std() / sigma) == pytest.approx(1, abs=0.05)
        return truth

    def about_truth(n):
        return noise_of(truth)(n) + (truth / 2.0 if n == 0 else 0)

    diffpir(
        operator,
        data,
        denoise=denoise,
        noise=about_truth,
        sigma=(2.0, 1.0, 0.5),
        sigma_y=0.1,
        zeta=zeta,
    )
    assert told == [(2.0, 0), (1.0, 1), (0.5, 2)]


def test_one_level_ends_at_the_proximal_map_of_the_denoised(toy, noise_of):
    x = diffpir(
        toy.operator,
        toy.data,
        denoise=poor,
        noise=noise_of(toy.truth),
        sigma=(0.7,),
        sigma_y=0.5,
        lam=2.0,
        start=0.1,
        inner=60,
    )
    x_0 = poor(0.1 + 0.7 * noise_of(toy.truth)(0), 0.7, 0)
    expected = proximal(toy.operator, toy.data, x_0, 2.0 * 0.5**2 / 0.7**2, iterations=60)
    assert float((x - expected).norm()) < 1e-4 * float(x.norm())


def test_it_begins_about_a_given_estimate_and_takes_another_data_step(toy, noise_of):
    seen, start = [], toy.truth + 0.3

    def denoise(x, sigma, n):
        seen.append(x)
        return poor(x, sigma, n)

    x = diffpir(
        toy.operator,
        toy.data,
        denoise=denoise,
        noise=noise_of(toy.truth),
        sigma=(0.7,),
        sigma_y=0.5,
        lam=2.0,
        start=start,
        data_step=lambda x_0, rho: x_0 + rho,
    )
    assert torch.equal(seen[0], start + 0.7 * noise_of(toy.truth)(0))
    torch.testing.assert_close(x, poor(seen[0], 0.7, 0) + 2.0 * 0.5**2 / 0.7**2)


def test_the_next_state_keeps_the_noise_about_the_fitted_estimate(toy):
    states = []

    def denoise(x, sigma, n):
        states.append(x)
        return poor(x, sigma, n)

    diffpir(
        toy.operator,
        toy.data,
        denoise=denoise,
        noise=lambda n: 0 * toy.truth,
        sigma=(2.0, 0.5),
        sigma_y=1.0,
        lam=2.0,
        zeta=0.36,
        start=1.0,
        inner=60,
    )
    x = toy.truth.new_ones(toy.truth.shape)
    x_hat = proximal(toy.operator, toy.data, poor(x, 2.0, 0), 2.0 / 2.0**2, iterations=60)
    expected = x_hat + 0.5 * 0.8 * (x - x_hat) / 2.0
    assert float((states[1] - expected).norm()) < 1e-4 * float(expected.norm())


def test_values_that_cannot_work_are_refused(whole, noise_of):
    good = {"sigma": (1.0,), "sigma_y": 1.0, "lam": 1.0, "zeta": 0.5}
    for wrong in ({"sigma": (1.0, 2.0)}, {"sigma_y": 0.0}, {"lam": 0.0}, {"zeta": 1.5}):
        with pytest.raises(InputError) as caught:
            diffpir(
                whole.operator,
                whole.data,
                denoise=poor,
                noise=noise_of(whole.truth),
                **(good | wrong),
            )
        assert caught.value.argument == next(iter(wrong))
