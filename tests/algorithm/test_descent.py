"""Explicit descent, the reference of every closed form."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from ddgm_dist.algorithm.descent import explicit_descent
from ddgm_dist.errors import InputError


@dataclass
class Matrix:
    matrix: Tensor

    def A(self, x: Tensor) -> Tensor:
        return self.matrix @ x

    def T(self, y: Tensor) -> Tensor:
        return self.matrix.mT @ y


@pytest.fixture
def problem() -> tuple[Matrix, Tensor, Tensor, float]:
    g = torch.Generator().manual_seed(0)
    a = torch.randn(7, 5, generator=g, dtype=torch.float64)
    x, b = (torch.randn(n, 1, generator=g, dtype=torch.float64) for n in (5, 7))
    return Matrix(a), x, b, float(1 / torch.linalg.matrix_norm(a, 2) ** 2)


def test_one_step_is_the_gradients_formula(problem: tuple[Matrix, Tensor, Tensor, float]):
    op, x, b, eta = problem
    expected = x - eta * op.matrix.mT @ (op.matrix @ x - b)
    assert torch.allclose(explicit_descent(op, x, b, 1, eta), expected, rtol=1e-12)


def test_steps_compose_and_none_is_none(problem: tuple[Matrix, Tensor, Tensor, float]):
    op, x, b, eta = problem
    twice = explicit_descent(op, explicit_descent(op, x, b, 2, eta), b, 3, eta)
    assert torch.allclose(explicit_descent(op, x, b, 5, eta), twice, rtol=1e-12)
    assert torch.equal(explicit_descent(op, x, b, 0, eta), x)


def test_a_fraction_is_a_shorter_last_step(problem: tuple[Matrix, Tensor, Tensor, float]):
    op, x, b, eta = problem
    whole = explicit_descent(op, x, b, 3, eta)
    expected = explicit_descent(op, whole, b, 1, 0.25 * eta)
    assert torch.allclose(explicit_descent(op, x, b, 3.25, eta), expected, rtol=1e-12)


def test_many_steps_reach_least_squares(problem: tuple[Matrix, Tensor, Tensor, float]):
    op, x, b, eta = problem
    expected = torch.linalg.lstsq(op.matrix, b).solution
    assert torch.allclose(explicit_descent(op, x, b, 5000, eta), expected, atol=1e-8)


def test_unmeasured_data_do_not_matter(problem: tuple[Matrix, Tensor, Tensor, float]):
    op, x, b, eta = problem
    measured = torch.tensor([1.0, 0, 1, 1, 0, 1, 1], dtype=torch.float64)[:, None]
    other = torch.where(measured > 0, b, torch.full_like(b, 1e3))
    got = [explicit_descent(op, x, d, 10, eta, measured=measured) for d in (b, other)]
    assert torch.equal(got[0], got[1])
    few = Matrix(op.matrix[measured[:, 0] > 0])
    kept = explicit_descent(few, x, b[measured[:, 0] > 0], 10, eta)
    assert torch.allclose(got[0], kept, rtol=1e-10)


def test_data_and_masks_that_do_not_fit_are_refused(problem: tuple[Matrix, Tensor, Tensor, float]):
    op, x, b, eta = problem
    for data in (b[:6], b[:, 0], b.expand(7, 3)):
        with pytest.raises(InputError, match="data"):
            explicit_descent(op, x, data, 1, eta)
    for measured in (torch.ones(6, 1), torch.ones(7, 7), torch.ones(1, 7, 1)):
        with pytest.raises(InputError, match="measured"):
            explicit_descent(op, x, b, 1, eta, measured=measured)
