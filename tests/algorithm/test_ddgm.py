"""The loop reads as the paper, and any suffix of it can be run alone."""

import torch
from torch import Tensor

from ddgm_dist.algorithm.ddgm import ddgm, ddgm_step
from ddgm_dist.algorithm.schedule import Schedule, make_schedule, noise_levels
from ddgm_dist.core.box import Box
from ddgm_dist.core.noise import addressed_noise

BOX = Box((0, 0, 0), (6, 2, 10))
SIGMA = noise_levels("exponential", 3.0, 0.03, 5)


def schedule(denoising_step: tuple[float, ...] | None = None) -> Schedule:
    return make_schedule(
        N=5, K=4, sigma=SIGMA, denoising_step=denoising_step, rule="paper", step_size=1.0
    )


def noise(n: int) -> Tensor:
    return addressed_noise(9, n, BOX)


def pull(x: Tensor, steps: float) -> Tensor:
    return x * 0.9**steps + 1.0


def shrink(x: Tensor, sigma: float, n: int) -> Tensor:
    return torch.tanh(x) / (1 + sigma * sigma + 0.1 * n)


def test_a_step_is_explain_then_diffuse_then_denoise():
    steps = (0.5, 0.4, 0.2, 0.15, 0.1)
    x = torch.linspace(-2, 2, BOX.size).reshape(BOX.shape)
    got = ddgm_step(x, 2, schedule=schedule(steps), descend=pull, noise=noise, denoise=shrink)
    explained = x * 0.9**4 + 1.0
    diffused = explained + SIGMA[2] * noise(2)
    predicted = (diffused - shrink(diffused, SIGMA[2], 2)) / SIGMA[2]
    assert torch.allclose(got, diffused - 0.2 * predicted, rtol=1e-6)


def test_a_full_denoising_step_takes_the_denoisers_word():
    x = torch.randn(BOX.shape, generator=torch.Generator().manual_seed(0))
    got = ddgm_step(x, 1, schedule=schedule(), descend=pull, noise=noise, denoise=shrink)
    diffused = pull(x, 4.0) + SIGMA[1] * noise(1)
    assert torch.allclose(got, shrink(diffused, SIGMA[1], 1), atol=1e-5)


def test_less_noise_may_be_added_than_the_denoiser_is_told():
    own = Schedule((2.0,), (0.5,), (2.0,), (4.0,))
    x = torch.linspace(-2, 2, BOX.size).reshape(BOX.shape)
    got = ddgm_step(x, 0, schedule=own, descend=pull, noise=noise, denoise=shrink)
    assert torch.allclose(got, shrink(pull(x, 4.0) + 0.5 * noise(0), 2.0, 0), atol=1e-5)


def test_without_noise_or_denoising_it_is_gradient_descent():
    x = torch.ones(BOX.shape)
    got = ddgm(
        x,
        schedule=schedule(),
        descend=pull,
        noise=lambda n: torch.zeros(BOX.shape),
        denoise=lambda x, sigma, n: x,
    )
    expected = x
    for _ in range(5):
        expected = pull(expected, 4.0)
    assert torch.equal(got, expected)


def test_each_part_is_asked_once_per_iteration_with_its_own_schedule():
    asked: list[tuple[str, float]] = []

    def descend(x: Tensor, steps: float) -> Tensor:
        asked.append(("descend", steps))
        return x

    def draw(n: int) -> Tensor:
        asked.append(("noise", n))
        return torch.ones(BOX.shape)

    def denoise(x: Tensor, sigma: float, n: int) -> Tensor:
        asked.append(("denoise", sigma))
        return x

    own = Schedule((2.0, 1.0), (9.0, 8.0), (0.0, 0.0), (3.0, 1.5))
    start = torch.zeros(BOX.shape)
    ddgm(start, schedule=own, descend=descend, noise=draw, denoise=denoise)
    assert torch.equal(start, torch.zeros(BOX.shape)), "the start was changed in place"
    one, two = ("descend", 3.0), ("descend", 1.5)
    assert asked == [one, ("noise", 0), ("denoise", 2.0), two, ("noise", 1), ("denoise", 1.0)]


def test_resumed_is_uninterrupted_bit_for_bit():
    start = torch.zeros(BOX.shape)
    whole = ddgm(start, schedule=schedule(), descend=pull, noise=noise, denoise=shrink)
    for first in range(6):
        x = start
        for n in range(first):
            x = ddgm_step(x, n, schedule=schedule(), descend=pull, noise=noise, denoise=shrink)
        rest = ddgm(x, schedule=schedule(), descend=pull, noise=noise, denoise=shrink, first=first)
        assert torch.equal(rest, whole)
    assert torch.equal(start, torch.zeros(BOX.shape)), "the start was changed in place"
