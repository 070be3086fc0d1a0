"""Laws of DPS."""

import pytest
import torch

from ddgm_dist.algorithm.schedule import noise_levels
from ddgm_dist.baselines.dps import data_gradient, dps
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.operator import SlabData


def bent(x, sigma, n):
    """A denoiser that is neither linear nor local."""
    return torch.tanh(x + 0.3 * x.roll(1, dims=0)) / (1 + sigma)


def normal(x, sigma, n):
    """Exact for a standard normal prior."""
    return x / (1 + sigma**2)


def test_its_gradient_is_that_of_the_squared_residual(toy):
    def squared(x):
        residual = toy.operator.residual(bent(x, 0.5, 0), toy.data)
        return float(residual.square().sum(dtype=torch.float64))

    generator = torch.Generator().manual_seed(2)
    x, p = (torch.randn(toy.truth.shape, generator=generator) for _ in range(2))
    x_hat, norm, gradient = data_gradient(toy.operator, toy.data, x, bent, 0.5, 0)
    h = 1e-2
    slope = (squared(x + h * p) - squared(x - h * p)) / (2 * h)
    assert float((gradient * p).sum()) == pytest.approx(slope, rel=2e-3)
    assert torch.equal(x_hat, bent(x, 0.5, 0))
    assert float(norm.square().sum()) == pytest.approx(squared(x), rel=1e-5)
    assert not gradient.requires_grad
    assert not x_hat.requires_grad


def test_without_noise_the_data_are_met_to_its_step(whole, seen, noise_of):
    """Well seen modes, s > 0.3 ||A||, to 5 %: zeta = 0.5 moves a row by at most 1, of a norm of 8."""
    operator, truth = whole.operator, whole.truth

    def solve(zeta):
        return dps(
            operator,
            whole.noiseless,
            denoise=normal,
            noise=noise_of(truth),
            sigma=noise_levels("exponential", 3.0, 0.01, 200),
            zeta=zeta,
        )

    error = float(seen(operator, solve(0.1) - truth, 0.3).norm())
    assert error < 0.05 * float(seen(operator, truth, 0.3).norm())
    without = float(seen(operator, solve(0.0) - truth, 0.3).norm())
    assert without > 0.5 * float(seen(operator, truth, 0.3).norm())


def test_without_guidance_every_state_has_its_noise_level(crowd, noise_of):
    operator, truth = crowd

    def denoise(x, sigma, n):
        if n:
            assert float((x.detach() - truth).std() / sigma) == pytest.approx(1, abs=0.05)
        return truth + 0 * x

    data = SlabData(operator.A(truth), truth.new_ones(1, 1, 1))
    dps(
        operator,
        data,
        denoise=denoise,
        sigma=(2.0, 1.0, 0.5),
        zeta=0.0,
        noise=lambda n: noise_of(truth)(n) + (truth / 2.0 if n == 0 else 0),
    )


def test_no_step_is_longer_than_twice_zeta(whole, noise_of):
    operator, zero = whole.operator, torch.zeros_like(whole.truth)
    a, b = (
        dps(
            operator,
            whole.data,
            denoise=lambda x, sigma, n: x,
            noise=noise_of(zero),
            sigma=(1.0,),
            zeta=zeta,
        )
        for zeta in (0.0, 0.25)
    )
    lengths = (a - b).square().sum(dim=(0, 2)).sqrt()
    assert float(lengths.max()) <= 0.5
    assert float(lengths.min()) > 0.1


def test_rows_are_problems_of_their_own(toy, noise_of):
    def solve(b):
        return dps(
            toy.operator,
            SlabData(b, toy.data.measured),
            denoise=bent,
            noise=noise_of(toy.truth),
            sigma=(2.0, 1.0, 0.5),
        )

    other = toy.data.stretched.clone()
    other[:, 1] *= -3
    a, b = solve(toy.data.stretched), solve(other)
    assert torch.allclose(a[:, 0], b[:, 0], atol=1e-6)
    assert not torch.allclose(a[:, 1], b[:, 1], atol=1e-2)


def test_what_cannot_work_is_refused(whole, noise_of):
    def numb(x, sigma, n):
        with torch.no_grad():
            return 0.5 * x

    good = {"sigma": (1.0,), "zeta": 1.0, "denoise": bent}
    for wrong in ({"sigma": (1.0, 2.0)}, {"zeta": -1.0}, {"denoise": numb}):
        with pytest.raises(InputError) as caught:
            dps(whole.operator, whole.data, noise=noise_of(whole.truth), **(good | wrong))
        assert caught.value.argument == next(iter(wrong))
