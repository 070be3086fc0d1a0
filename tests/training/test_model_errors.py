"""Errors of the model do to projections what their names say."""

import math

import numpy as np
import pytest
import torch

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.training.model_errors import ModelErrors

ANGLES = (0.0, 60.0)
ACQUISITION = Acquisition(ANGLES, 8)
WIDTH = 64


def applied(lines: torch.Tensor, **changes: object) -> torch.Tensor:
    none = torch.zeros(2)
    values = {"shift": none, "gain": none + 1, "blur": 0.0, "uneven": none + 1, **changes}
    return ModelErrors(**values).applied(lines, ACQUISITION)  # type: ignore[arg-type]


def smooth() -> torch.Tensor:
    x = torch.arange(WIDTH) * 2 * math.pi / WIDTH
    return torch.stack([torch.stack([x.cos(), (2 * x).sin()])] * 2)


def test_nothing_changes_nothing() -> None:
    torch.testing.assert_close(applied(smooth()), smooth(), atol=1e-5, rtol=0)


def test_a_shift_along_u_is_longer_on_the_stretched_grid() -> None:
    lines = smooth()
    moved = applied(lines, shift=torch.tensor([3.0, 2.0]))
    for tilt, columns in ((0, 3), (1, 4)):  # cos(60 degrees) = 1/2
        torch.testing.assert_close(
            moved[tilt], lines[tilt].roll(columns, dims=-1), atol=1e-5, rtol=0
        )


def test_gain_and_blur() -> None:
    lines = smooth()
    torch.testing.assert_close(
        applied(lines, gain=torch.tensor([1.1, 0.9])),
        lines * torch.tensor([1.1, 0.9])[:, None, None],
    )
    weaker = applied(lines, blur=2.0).abs().amax(dim=-1) / lines.abs().amax(dim=-1)
    assert bool((weaker < 1).all())
    assert bool((weaker[1] < weaker[0]).all())  # a pixel is two of the stretched grid there


def test_errors_that_are_drawn_are_as_large_as_promised() -> None:
    rng = np.random.default_rng(0)
    many = [ModelErrors.draw(rng, Acquisition(tuple(range(-60, 61, 2)), 8)) for _ in range(200)]
    assert max(float(e.shift.std()) for e in many) < 1.4
    assert any(float(e.shift.mean().abs()) > 1 for e in many)
    assert any(e.counts > 0 for e in many)
    assert max(e.blur for e in many) < 1
    assert all(abs(float(e.uneven.square().mean()) - 1) < 1e-4 for e in many)
    assert any(bool((e.shift != 0).any()) for e in many)


def test_counts_make_the_noise_follow_the_projection() -> None:
    b, uneven = torch.linspace(-2, 2, 50).expand(2, 1, -1), torch.tensor([1.2, 0.8])
    none = torch.zeros(2)
    flat = ModelErrors(none, none + 1, 0.0, uneven).strength(b, torch.tensor(1.0))
    torch.testing.assert_close(flat[0] / flat[1], torch.full((1, 50), 1.5))
    counted = ModelErrors(none, none + 1, 0.0, uneven, counts=0.5)
    found = counted.strength(b, torch.tensor(1.0))
    assert float(found.square().mean()) == pytest.approx(1, rel=1e-5)
    variance = found[0, 0].square()
    torch.testing.assert_close(variance / variance[0], torch.exp(0.5 * (b[0, 0] - b[0, 0, 0])))
