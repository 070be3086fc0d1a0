"""Convolution of a field with a known kernel."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from ddgm_dist.algorithm.descent import explicit_descent
from ddgm_dist.errors import InputError
from ddgm_dist.operators.base import operator_norm_squared
from ddgm_dist.operators.blur import Blur, disc_kernel, gaussian_kernel
from tests.adjoint import valid_adjoint


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


LOPSIDED = torch.rand(5, 3, generator=generator(7)) - 0.2
CASES = {
    "lopsided": Blur(LOPSIDED, (12, 15)),
    "lopsided, periodic": Blur(LOPSIDED, (12, 15), "periodic"),
    "Gaussian": Blur(gaussian_kernel(1.0), (11, 16)),
    "disc, periodic": Blur(disc_kernel(2.0), (10, 9), "periodic"),
}
cases = pytest.mark.parametrize("operator", CASES.values(), ids=CASES.keys())


def problem(operator: Blur) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(operator.extent[0], 3, operator.extent[1], generator=generator())
    return x, torch.randn(operator.field[0], 3, operator.field[1], generator=generator(1))


@cases
def test_the_adjoint_is_the_adjoint(operator: Blur):
    assert valid_adjoint(operator.A, operator.T, *problem(operator))


@pytest.mark.parametrize("boundary", ["unknown", "periodic"])
def test_it_is_the_convolution(boundary):
    operator = Blur(LOPSIDED, (12, 15), boundary)
    x, _ = problem(operator)
    got = operator.A(x)
    for row in range(3):
        image = x[:, row].numpy()
        if boundary == "unknown":
            expected = convolve2d(image, LOPSIDED.numpy(), mode="valid")
        else:
            expected = convolve2d(image, LOPSIDED.numpy(), mode="same", boundary="wrap")
        np.testing.assert_allclose(got[:, row], expected, atol=1e-5)


@cases
def test_the_norm_bounds_power_iteration(operator: Blur):
    x, _ = problem(operator)
    found = operator_norm_squared(operator, tuple(x.shape), iterations=200)
    assert found < (1 + 1e-5) * operator.norm_squared
    at_least = 0.95 if operator.margin == (0, 0) else 0.4
    assert found > at_least * operator.norm_squared


@cases
@pytest.mark.parametrize("steps", [1, 7, 3.3])
def test_the_closed_form_is_that_many_steps(operator: Blur, steps: float):
    x, y = problem(operator)
    eta = 1 / operator.norm_squared
    expected = explicit_descent(operator, x, y, steps, eta)
    got = operator.descend(x, y, steps, eta, impute_every=1)
    assert torch.allclose(got, expected, atol=1e-5)
    assert not torch.allclose(got, x, atol=1e-2)
    assert torch.equal(operator.descend(x, y, 0, eta), x)


def test_runs_that_impute_seldom_stay_close_to_masked_descent():
    operator = CASES["Gaussian"]
    x, y = problem(operator)
    every, seldom, once = (operator.descend(x, y, 20, 1.0, impute_every=n) for n in (1, 5, 20))
    assert 0 < float((seldom - every).norm()) < 0.6 * float((once - every).norm())


@cases
@pytest.mark.parametrize("masked", [False, True])
def test_the_error_never_rises(operator: Blur, masked: bool):
    x, y = problem(operator)
    S = (torch.rand(y.shape, generator=generator(3)) > 0.4).float() if masked else None
    errors = []
    for _ in range(8):
        residual = (operator.A(x) - y) * (1 if S is None else S)
        errors.append(float(residual.square().sum()))
        x = operator.descend(x, y, 5, 1 / operator.norm_squared, measured=S)
    assert all(b <= a * (1 + 1e-6) for a, b in pairwise(errors))
    assert errors[-1] < 0.7 * errors[0]


def test_unmeasured_pixels_do_not_matter():
    operator = CASES["lopsided"]
    x, y = problem(operator)
    S = (torch.rand(12, 1, 15, generator=generator(3)) > 0.4).float()
    other = torch.where(S > 0, y, y + 9)
    got = [operator.descend(x, d, 4, 0.1, measured=S) for d in (y, other)]
    assert torch.equal(got[0], got[1])
    assert torch.allclose(
        operator.descend(x, y, 1, 0.1, measured=S),
        explicit_descent(operator, x, y, 1, 0.1, measured=S),
        atol=1e-5,
    )


def test_the_field_is_the_middle_of_the_domain():
    operator = Blur(torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]]), (6, 7))
    x, _ = problem(operator)
    assert torch.allclose(operator.A(x), operator.crop(x), atol=1e-6)


@pytest.mark.parametrize("kernel", [gaussian_kernel(1.7), disc_kernel(3.3), disc_kernel(0.4)])
def test_kernels_keep_the_mean_and_the_place(kernel: torch.Tensor):
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-6)
    assert torch.allclose(kernel, kernel.flip(0, 1))
    assert torch.equal(kernel, kernel.T)
    assert int(kernel.argmax()) == kernel.numel() // 2 or float(kernel.max()) == float(
        kernel[kernel.shape[0] // 2, kernel.shape[1] // 2]
    )


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda: Blur(torch.ones(4, 3), (9, 9)), "odd extents"),
        (lambda: Blur(torch.ones(3), (9, 9)), "odd extents"),
        (lambda: Blur(torch.ones(11, 3), (9, 9)), "larger than the field"),
        (lambda: Blur(torch.full((3, 3), torch.nan), (9, 9)), "NaN"),
        (lambda: Blur(torch.zeros(3, 3), (9, 9)), "all 0"),
        (lambda: Blur(torch.ones(3, 3), (9, 9), "mirror"), "boundary = mirror"),
        (lambda: Blur(torch.ones(3, 3), (9, 9)).A(torch.zeros(9, 1, 9)), r"\(11, any, 11\)"),
        (lambda: Blur(torch.ones(3, 3), (9, 9)).T(torch.zeros(9, 1, 8)), "data"),
        (
            lambda: Blur(torch.ones(3, 3), (9, 9)).descend(
                torch.zeros(11, 1, 11), torch.zeros(9, 1, 9), 1, 0.1, impute_every=0
            ),
            "impute_every",
        ),
        (
            lambda: Blur(torch.ones(3, 3), (9, 9)).descend(
                torch.zeros(11, 2, 11), torch.zeros(9, 1, 9), 1, 0.1
            ),
            "data",
        ),
        (lambda: gaussian_kernel(0.0), "sigma"),
        (lambda: disc_kernel(-1.0), "radius"),
    ],
)
def test_what_does_not_fit_is_refused(use, words: str):
    with pytest.raises(InputError, match=words):
        use()


def test_a_mask_of_the_data_that_does_not_fit_is_refused():
    operator = CASES["lopsided"]
    x, y = problem(operator)
    bright = torch.full(y.shape, 255.0)
    for mask in (torch.ones(x.shape), bright, torch.zeros(y.shape)):
        with pytest.raises(InputError, match="measured"):
            operator.descend(x, y, 1, 0.1, measured=mask)


def test_a_mask_of_an_image_is_that_of_all_rows_and_what_it_leaves_out_does_not_matter():
    operator = CASES["lopsided"]
    x, y = problem(operator)
    flat = torch.ones(operator.field, dtype=torch.bool)
    flat[2, 3] = False
    got = operator.descend(x, y, 3, 0.1, measured=flat)
    full = flat[:, None].expand(y.shape).float()
    assert torch.equal(got, operator.descend(x, y, 3, 0.1, measured=full))
    y[2, :, 3] = torch.nan
    assert torch.equal(got, operator.descend(x, y, 3, 0.1, measured=flat))
    with pytest.raises(InputError, match="NaN"):
        operator.descend(x, y, 3, 0.1)
