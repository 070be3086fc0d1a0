"""The training of a restorer."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ddgm_dist.prior.restoring_unet import RestoringUNet, RestoringUNetSpec
from ddgm_dist.training.loop import TrainingOptions, run_training
from ddgm_dist.training.patches import PatchSampler
from ddgm_dist.training.restoring import RestoringTask, relative_error, squared_errors

SMALL = RestoringUNetSpec(
    channels=(32, 32), encoder_blocks=(1,), decoder_blocks=(1,), middle_blocks=1, neighbours=1
)


@pytest.fixture(scope="module")
def task() -> RestoringTask:
    volume = gaussian_filter(np.random.default_rng(0).standard_normal((48, 48, 48)), 1.5)
    sampler = PatchSampler([volume.astype(np.float32)], size=32)
    return RestoringTask(sampler, None, SMALL, columns=32)


class Perfect(torch.nn.Module):
    """Knows the truth."""

    neighbours = 1

    def __init__(self, clean: torch.Tensor) -> None:
        super().__init__()
        self.clean, self.head = clean, torch.nn.Conv2d(1, 1, 1)

    def forward(self, images: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        self.given = others
        return self.clean


def test_the_loss_is_one_for_the_inverse_and_zero_for_the_truth(task: RestoringTask) -> None:
    inputs = replace(task._inputs(task.sampler, 2, 0).draw(1), calls=1)
    untrained = RestoringUNet(SMALL)
    assert float(relative_error(untrained, inputs).detach()) == pytest.approx(1, abs=1e-4)
    clean = inputs.window(inputs.clean)
    perfect: RestoringUNet = Perfect(clean)  # type: ignore[assignment]
    assert float(relative_error(perfect, inputs)) == 0
    # What lies in the padding is not asked for.
    padding = (inputs.window(inputs.coverage) == 0).float()
    elsewhere: RestoringUNet = Perfect(clean + padding)  # type: ignore[assignment]
    assert float(squared_errors(elsewhere, inputs).max()) == 0


def test_a_repeated_call_is_trained_on_its_own_estimates(task: RestoringTask) -> None:
    once = replace(task._inputs(task.sampler, 2, 0).draw(1), calls=1)
    net = RestoringUNet(SMALL)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    seen: list[tuple[torch.Tensor | None, bool]] = []
    forward = net.forward

    def noting(*given: Any) -> torch.Tensor:
        seen.append((given[3], torch.is_grad_enabled()))
        return forward(*given)

    net.forward = noting  # type: ignore[method-assign]
    first = squared_errors(net, once)
    third = squared_errors(net, replace(once, calls=3))
    assert not torch.equal(first, third)
    (none, _), (zeroth, *_), *repeated = seen
    assert none is None
    assert zeroth is None
    assert [trained for _, trained in seen] == [True, False, False, True]
    whole, part = (given for given, _ in repeated)
    assert whole is not None
    assert part is not None
    assert part.shape[-1] == 32 < whole.shape[-1]


def test_it_learns(task: RestoringTask) -> None:
    options = TrainingOptions(steps=60, batch=2, warmup=4, learning_rate=3e-3, ema=0.9)
    net, _ = run_training(task, options)
    unseen = [task._inputs(task.sampler, 2, 9).draw(step) for step in range(8)]
    with torch.no_grad():
        errors = [float(relative_error(net, replace(inputs, calls=1))) for inputs in unseen]
    assert np.mean(errors) < 0.99
    assert sum(error < 1 for error in errors) >= 6


def test_nothing_is_judged_without_validation(task: RestoringTask) -> None:
    assert task.judge(RestoringUNet(SMALL)) is None
