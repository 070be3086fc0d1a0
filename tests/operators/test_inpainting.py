"""Pixels that were not measured."""

import pytest
import torch

from ddgm_dist.algorithm.descent import explicit_descent
from ddgm_dist.errors import InputError
from ddgm_dist.operators.base import operator_norm_squared
from ddgm_dist.operators.inpainting import Inpainting
from tests.adjoint import valid_adjoint


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


SHAPE = (7, 3, 9)
X, Y = torch.randn(SHAPE, generator=generator()), torch.randn(SHAPE, generator=generator(1))
CASES = {
    "alike": Inpainting(torch.rand(7, 9, generator=generator(2)) > 0.5),
    "each its own": Inpainting(torch.rand(SHAPE, generator=generator(3)) > 0.5),
}
cases = pytest.mark.parametrize("operator", CASES.values(), ids=CASES.keys())


@cases
def test_the_adjoint_is_the_adjoint_and_the_norm_is_one(operator: Inpainting):
    assert valid_adjoint(operator.A, operator.T, X, Y)
    assert operator_norm_squared(operator, SHAPE) == pytest.approx(operator.norm_squared)


@cases
@pytest.mark.parametrize("steps", [0, 1, 7, 3.3])
@pytest.mark.parametrize("step_size", [1.0, 0.3])
def test_the_closed_form_is_that_many_steps(operator: Inpainting, steps: float, step_size: float):
    expected = explicit_descent(operator, X, operator.A(Y), steps, step_size)
    assert torch.allclose(operator.descend(X, Y, steps, step_size), expected, atol=1e-6)


@cases
def test_missing_pixels_stay_and_do_not_matter(operator: Inpainting):
    got = operator.descend(X, Y, 3, 0.5)
    missing = (operator.mask == 0).expand(SHAPE)
    assert torch.equal(got[missing], X[missing])
    for anything in (1e6, torch.nan):
        other = torch.where(operator.mask > 0, Y, torch.tensor(anything))
        assert torch.equal(got, operator.descend(X, other, 3, 0.5))
    with pytest.raises(InputError, match="NaN"):
        operator.descend(X, torch.full_like(Y, torch.nan), 3, 0.5)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda: Inpainting(torch.ones(7, 9), (9, 7)), "transpose it"),
        (lambda: Inpainting(torch.ones(7)), r"must be \(z, x\)"),
        (lambda: Inpainting(torch.zeros(7, 9)), "nothing was measured"),
        (lambda: Inpainting(torch.ones(7, 9)).A(torch.zeros(9, 3, 7)), "the mask is of images"),
        (lambda: Inpainting(torch.ones(7, 3, 9)).T(torch.zeros(7, 2, 9)), "the mask is of images"),
        (lambda: Inpainting(torch.ones(7, 9)).descend(X, torch.zeros(7, 1, 1), 1, 0.5), "data"),
        (lambda: Inpainting(torch.ones(7, 9)).descend(X, X[:, :1], 1, 0.5), "data"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(use, words: str):
    with pytest.raises(InputError, match=words):
        use()
