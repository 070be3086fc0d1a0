"""Norms by power iteration, and masks that have to fit."""

import pytest
import torch
from torch import Tensor

from ddgm_dist.errors import InputError
from ddgm_dist.operators.base import check_mask, operator_norm_squared
from tests.adjoint import valid_adjoint


class Scaled:
    """A diagonal operator: it multiplies images with weights of their shape."""

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights

    def A(self, x: Tensor) -> Tensor:
        return self.weights * x

    def T(self, y: Tensor) -> Tensor:
        return self.weights * y


def test_power_iteration_finds_the_largest():
    weights = torch.linspace(0, 3, 24).reshape(4, 1, 6)
    weights[2, 0, 2] = 5
    found = operator_norm_squared(Scaled(weights), (4, 1, 6))
    assert found == pytest.approx(25, rel=1e-5)
    assert operator_norm_squared(Scaled(0 * weights), (4, 1, 6)) == 0


def test_it_never_exceeds_the_norm():
    weights = torch.linspace(0, 3, 24).reshape(4, 1, 6)
    found = [operator_norm_squared(Scaled(weights), (4, 1, 6), iterations=n) for n in (1, 5, 200)]
    assert found == sorted(found)
    assert found[-1] <= 9 * (1 + 1e-6)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float64])
def test_a_mask_may_be_of_any_number(dtype: torch.dtype):
    mask = torch.tensor([[1, 0, 1], [0, 0, 1]]).to(dtype)
    got = check_mask(mask, (2, 3), of="the image")
    assert got.dtype == torch.float32
    assert torch.equal(got, mask.float())


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.ones(3, 2), r"does not fit the image, which is \(2, 3\); transpose it"),
        (torch.ones(2, 4), "does not fit the image"),
        (torch.ones(6), "does not fit the image"),
        (torch.full((2, 3), 0.5), "nothing between; compare with a threshold"),
        (torch.full((2, 3), torch.nan), "nothing between"),
        (torch.full((2, 3), 255), "nothing between"),
        (torch.ones(2, 3, dtype=torch.complex64), "nothing between"),
        (torch.zeros(2, 3), "nothing was measured"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(mask: Tensor, words: str):
    with pytest.raises(InputError, match=words):
        check_mask(mask, (2, 3), of="the image")


def test_the_law_of_adjoints_finds_a_fault_and_refuses_to_say_nothing():
    g = torch.Generator().manual_seed(0)
    x, y, matrix = (torch.randn(n, generator=g) for n in [(7,), (5,), (5, 7)])
    assert valid_adjoint(matrix.mv, matrix.mT.mv, x, y)
    assert not valid_adjoint(matrix.mv, (1.001 * matrix.mT).mv, x, y)
    phase = torch.exp(1j * torch.randn(7, generator=g))
    assert valid_adjoint(lambda v: phase * v, lambda v: phase.conj() * v, x + 0j, phase * x)
    assert not valid_adjoint(lambda v: phase * v, lambda v: phase * v, x + 0j, phase * x)
    for a, u, v in [(0 * matrix, x, y), (matrix, 0 * x, y), (matrix, x, 0 * y)]:
        with pytest.raises(ValueError, match="says nothing"):
            valid_adjoint(a.mv, a.mT.mv, u, v)
    with pytest.raises(ValueError, match="T y"):
        valid_adjoint(matrix.mv, lambda v: v, x, y)
