"""Laws of SIRT."""

import math
from itertools import pairwise

import torch

from ddgm_dist.baselines.sirt import inverse_sums, sirt


def test_its_weights_are_the_inverse_sums_of_the_matrix(whole):
    A = whole.matrix()
    R, C = inverse_sums(whole.operator)
    assert torch.allclose(A.sum(dim=0) * C, torch.ones(A.shape[1]).double(), atol=1e-5)
    rows = A.sum(dim=1).reshape(-1, whole.operator.length) * R[:, :, 0]
    assert torch.allclose(rows, torch.ones_like(rows), atol=1e-5)


def test_an_iteration_is_its_formula_with_explicit_matrices(toy):
    R, C = inverse_sums(toy.operator)
    R = R.double().expand(-1, 1, toy.operator.length).flatten()
    (_, x), (_, y) = sirt(toy.operator, toy.data, [3, 5], start=0.4)
    for row in range(2):
        SA, Sb = toy.masked(row)
        expected = toy.rows(x)[:, row]
        for _ in range(2):
            expected = expected + C * SA.T @ (R * (Sb - SA @ expected))
        assert float((toy.rows(y)[:, row] - expected).norm()) < 1e-5 * float(expected.norm())
        assert float((y - x).norm()) > 1e-2 * float(y.norm())


def test_the_weighted_residual_never_rises(toy):
    R, _ = inverse_sums(toy.operator)
    errors = [
        math.sqrt((R * toy.operator.residual(x, toy.data).square()).double().sum())
        for _, x in sirt(toy.operator, toy.data, range(80))
    ]
    assert max((b - a) / errors[0] for a, b in pairwise(errors)) < 1e-6
    assert errors[-1] < 0.25 * errors[0]


def test_no_eigenvalue_exceeds_one(toy):
    R, C = inverse_sums(toy.operator)
    R = R.double().expand(-1, 1, toy.operator.length).flatten()
    SA, _ = toy.masked(0)
    largest = float(torch.linalg.eigvalsh(C * SA.T @ (R[:, None] * SA)).max())
    assert largest < 1 + 1e-6
    assert largest > 0.5
