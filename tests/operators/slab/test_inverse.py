"""The regularized inverse: what the explicit solution is, row by row."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.operators.slab.basis import norm_squared
from ddgm_dist.operators.slab.inverse import (
    DAMPING,
    LEAST_NOISE,
    STEPS,
    inverse_steps,
    regularized_inverse,
    sound_noise,
)
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator

ANGLES = (-55.0, -30.0, -11.0, 0.0, 20.0, 48.0)


def geometry(**keys: Any) -> Geometry:
    return replace(Geometry(ANGLES, thickness=5, rows=3, field=20), **keys)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def masked(operator: SlabOperator, rows: int = 3) -> SlabData:
    """Data of noise, of which what the rays miss and a few samples more are masked."""
    g = operator.geometry
    valid = torch.ones(g.tilts, rows, g.field)
    valid[2, 1, 5:9] = 0
    return operator.prepare(10 * noise(g.tilts, rows, g.field), valid)


def explicit(operator: SlabOperator, data: SlabData, sigma: float) -> Tensor:
    """The solution of the dense normal equations of every row, float64."""
    depth, width = operator.geometry.thickness, operator.columns[1] - operator.columns[0]
    unit = torch.eye(depth * width).reshape(depth * width, depth, width).permute(1, 0, 2)
    a = operator.A_linear(unit).permute(0, 2, 1).reshape(-1, depth * width).double()
    rows = data.stretched.shape[1]
    right = operator.residual(torch.zeros(depth, rows, width), data).double()
    out = []
    for row in range(rows):
        s = data.measured.expand_as(data.stretched)[:, row].reshape(-1).double()
        normal = a.T @ (s[:, None] * a) + sigma**2 * torch.eye(depth * width, dtype=torch.float64)
        out.append(torch.linalg.solve(normal, a.T @ right[:, row].reshape(-1)))
    return torch.stack(out).reshape(rows, depth, width).permute(1, 0, 2)


@pytest.mark.parametrize("boundary", ["extended", "vacuum"])
@pytest.mark.parametrize("sigma", [0.5, 3.0])
def test_it_tends_to_the_explicit_solution(boundary: Any, sigma: float) -> None:
    """With masks, and a background that is projected from beyond the columns."""
    operator = SlabOperator(geometry(boundary=boundary), background=-2.0)
    data = masked(operator)
    expected = explicit(operator, data, sigma)
    found = regularized_inverse(operator, data, sigma, iterations=60)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-4 * float(expected.std()))


def test_each_step_comes_nearer_and_the_fixed_number_is_near() -> None:
    """In the norm of the equations, which is what conjugate gradients lower."""
    operator = SlabOperator(geometry())
    data, sigma = masked(operator), 4.0
    exact = explicit(operator, data, sigma)
    fixed = inverse_steps(operator.geometry, sigma**2)

    def distance(steps: int) -> float:
        error = (regularized_inverse(operator, data, sigma, iterations=steps) - exact).float()
        seen = (data.measured * operator.A_linear(error)).square().sum()
        return float(seen + sigma**2 * error.square().sum()) ** 0.5

    far = [distance(steps) for steps in range(fixed + 1)]
    assert all(b < a for a, b in pairwise(far))
    assert far[-1] < 0.02 * far[0]
    default = regularized_inverse(operator, data, sigma)
    assert torch.equal(default, regularized_inverse(operator, data, sigma, iterations=fixed))


@pytest.mark.parametrize("share", [1.0, 20.0])
def test_one_step_is_exact_where_nothing_is_masked_and_the_columns_fill_the_period(
    share: float,
) -> None:
    operator = SlabOperator(geometry(), (0, 28))
    assert operator.length == 28
    data = SlabData(operator.A(noise(5, 3, 28)), torch.ones(len(ANGLES), 1, 1))
    sigma = math.sqrt(share * DAMPING * norm_squared(operator.geometry))
    found = regularized_inverse(operator, data, sigma, iterations=1)
    expected = explicit(operator, data, sigma)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)
    more = regularized_inverse(operator, data, sigma)
    torch.testing.assert_close(more.double(), expected, rtol=0, atol=1e-4)


def test_rows_do_not_depend_on_each_other_and_those_without_data_are_empty() -> None:
    operator = SlabOperator(geometry())
    data = masked(operator)
    found = regularized_inverse(operator, data, 1.0)
    other = SlabData(data.stretched.clone(), data.measured.clone())
    other.stretched[:, 0] = other.measured[:, 0] = 0
    other.stretched[:, 2] *= 1000
    changed = regularized_inverse(operator, other, 1.0)
    assert torch.equal(changed[:, 1], found[:, 1])
    assert not changed[:, 0].any()
    assert bool(torch.isfinite(changed).all())


@pytest.mark.parametrize("sigma", [0.0, 1e-6])
def test_noise_has_a_least_value(sigma: float) -> None:
    """Data without noise are no reason for numbers that float32 does not hold."""
    operator = SlabOperator(geometry())
    least = LEAST_NOISE * math.sqrt(norm_squared(operator.geometry))
    assert sound_noise(operator.geometry, sigma) == least
    assert sound_noise(operator.geometry, 2 * least) == 2 * least
    data = masked(operator)
    found = regularized_inverse(operator, data, sigma)
    assert torch.equal(found, regularized_inverse(operator, data, least))
    assert bool(torch.isfinite(regularized_inverse(operator, data, sigma, iterations=80)).all())


@pytest.mark.parametrize("boundary", ["extended", "vacuum"])
def test_about_an_estimate_it_is_the_data_step(boundary: Any) -> None:
    """The minimum of the misfit and of the distance from the estimate: their gradients cancel."""
    operator = SlabOperator(geometry(boundary=boundary), background=-2.0)
    data, sigma, nu = masked(operator), 3.0, 0.5
    around = noise(5, 3, operator.columns[1] - operator.columns[0], seed=2)
    found = regularized_inverse(operator, data, sigma, around=around, spread=nu, iterations=60)
    misfit = operator.T(operator.residual(found, data)) / sigma**2
    torch.testing.assert_close((found - around) / nu**2, misfit, rtol=0, atol=2e-4)
    assert float((found - around).abs().max()) > 0.1
    nothing = SlabData(data.stretched * 0, data.measured * 0)
    assert torch.equal(regularized_inverse(operator, nothing, sigma, around=around), around)


def test_less_regularization_takes_more_steps() -> None:
    g = geometry()
    norm = norm_squared(g)
    assert [inverse_steps(g, share * norm) for share, _ in STEPS] == [n for _, n in STEPS]
    steps = [inverse_steps(g, share * norm) for share in (0, 1e-9, 2e-3, 1)]
    assert steps == sorted(steps, reverse=True)


def test_it_is_the_same_whatever_the_number_of_threads() -> None:
    operator = SlabOperator(geometry(thickness=16, field=200))
    data = masked(operator)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(regularized_inverse(operator, data, 1.0))
    finally:
        torch.set_num_threads(threads)
    assert found[0].dtype == torch.float32
    assert all(torch.equal(found[0], other) for other in found[1:])
