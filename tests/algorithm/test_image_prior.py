"""Whole images through the loop."""

import pytest
import torch
from torch import Tensor

from ddgm_dist.algorithm.ddgm import ddgm
from ddgm_dist.algorithm.image_prior import ImagePrior
from ddgm_dist.algorithm.schedule import make_schedule, noise_levels
from ddgm_dist.core.box import Box
from ddgm_dist.core.noise import addressed_noise
from ddgm_dist.errors import InputError


class Gaussian:
    """The exact denoiser of white noise images of unit variance; sees what is padding."""

    stride = 8

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[int, ...], float]] = []

    def __call__(self, x: Tensor, sigma: float, inside: Tensor) -> Tensor:
        assert x.shape[1] % 8 == 0
        assert x.shape[2] % 8 == 0
        assert bool((x[inside == 0] == 0).all())
        self.asked.append((tuple(x.shape), float(inside.sum())))
        return x / (1 + sigma * sigma)


def test_images_are_padded_and_come_back_as_they_were():
    prior = ImagePrior(Gaussian(), (13, 3, 21))
    x = torch.randn(13, 3, 21, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(prior.denoise(x, 2.0, 0), x / 5)
    assert prior.denoiser.asked == [((3, 16, 24), 13 * 3 * 21)]


def test_noise_has_its_address():
    prior = ImagePrior(Gaussian(), (13, 3, 21), seed=4)
    assert torch.equal(prior.noise(6), addressed_noise(4, 6, Box((0, 0, 0), (13, 3, 21))))
    assert torch.equal(prior.start(), torch.zeros(13, 3, 21))


def test_with_an_exact_prior_the_cap_nears_the_posterior_mean():
    # Half of white noise images is seen through noise as large as they are. The posterior mean has
    # error 1/2 where seen and 1 elsewhere; without the cap 25 steps take the data's noise as it is.
    prior = ImagePrior(Gaussian(), (64, 1, 64), seed=1)
    g = torch.Generator().manual_seed(2)
    truth, seen = torch.randn(64, 1, 64, generator=g), torch.zeros(64, 1, 64)
    seen[:, :, ::2] = 1
    data = truth + torch.randn(truth.shape, generator=g)
    errors = {}
    for rule in ("noise-aware", "paper"):
        schedule = make_schedule(
            N=30,
            K=25,
            sigma=noise_levels("exponential", 3, 0.1, 30),
            added_noise=0.3,
            rule=rule,
            step_size=0.5,
            sigma_y=1.0,
        )
        x = ddgm(
            prior.start(),
            schedule=schedule,
            descend=lambda x, K: x + (1 - 0.5**K) * seen * (data - x),
            noise=prior.noise,
            denoise=prior.denoise,
        )
        errors[rule] = float((x - truth)[:, :, ::2].square().mean())
        assert float((x - truth)[:, :, 1::2].square().mean()) < 1.1
    assert errors["noise-aware"] < 0.6
    assert errors["paper"] > 0.9


@pytest.mark.parametrize("shape", [(4, 5), (0, 1, 4), (1, 2, 3, 4)])
def test_a_shape_is_three_extents(shape: tuple[int, ...]):
    with pytest.raises(InputError, match="shape"):
        ImagePrior(Gaussian(), shape)  # type: ignore[arg-type]
