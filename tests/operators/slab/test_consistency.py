"""What no volume explains: nothing of projections, a known share of noise, all that is out of line."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ddgm_dist.core.geometry import Boundary, Geometry
from ddgm_dist.operators.slab.consistency import unexplained
from ddgm_dist.operators.slab.operator import SlabOperator

ANGLES = tuple(float(a) for a in range(-60, 61, 4))


def operator(boundary: Boundary = "extended") -> SlabOperator:
    return SlabOperator(Geometry(ANGLES, 16, 3, 90, boundary=boundary))


def normal(shape: torch.Size | tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mask(op: SlabOperator) -> Tensor:
    return op.prepare(torch.zeros(len(ANGLES), 3, 90)).measured


@pytest.mark.parametrize("boundary", ["extended", "vacuum"])
def test_projections_of_a_volume_are_explained(boundary: Boundary) -> None:
    op = operator(boundary)
    first, last = op.columns
    projected = mask(op) * op.A(normal((16, 3, last - first)))
    left = unexplained(op, projected, mask(op))
    assert left.norm() < 0.01 * projected.norm()


def test_it_is_linear_and_each_row_is_for_itself() -> None:
    op = operator()
    a, b = (mask(op) * normal((len(ANGLES), 3, op.length), seed) for seed in (1, 2))
    both = unexplained(op, 2 * a - 3 * b, mask(op))
    apart = 2 * unexplained(op, a, mask(op)) - 3 * unexplained(op, b, mask(op))
    assert torch.allclose(both, apart, atol=1e-3)
    alone = unexplained(op, a[:, 1:2], mask(op))
    assert torch.allclose(unexplained(op, a, mask(op))[:, 1:2], alone, atol=1e-4)


def test_more_steps_never_leave_more() -> None:
    """The momentum may swing by little; a step that is too long would diverge."""
    op = operator()
    noise = mask(op) * normal((len(ANGLES), 3, op.length))
    left = [float(unexplained(op, noise, mask(op), n).norm()) for n in (0, 5, 20, 80, 320)]
    assert left[0] == pytest.approx(float(noise.norm()))
    assert all(b <= 1.001 * a for a, b in pairwise(left))
    assert left[-1] > 0.2 * left[0]


def test_a_view_out_of_place_is_what_is_left() -> None:
    op = operator()
    first, last = op.columns
    projected = mask(op) * op.A(
        torch.nn.functional.avg_pool2d(normal((16, 3, last - first)), 3, 1, 1)
    )
    moved = projected.clone()
    moved[15] = mask(op)[15] * projected[15].roll(3, -1)
    left = unexplained(op, moved, mask(op)).square().sum(dim=(1, 2))
    assert int(left.argmax()) == 15
    assert float(left.sum()) > 100 * float(unexplained(op, projected, mask(op)).square().sum())
