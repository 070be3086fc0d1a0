"""Masked Fourier samples of real images."""

import pytest
import torch

from ddgm_dist.algorithm.descent import explicit_descent
from ddgm_dist.errors import InputError
from ddgm_dist.operators.base import operator_norm_squared
from ddgm_dist.operators.fourier import MaskedFourier
from ddgm_dist.operators.fourier_masks import cartesian_mask, variable_density_mask
from tests.adjoint import valid_adjoint


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


CASES = {
    "lines": cartesian_mask((12, 15), 3),
    "points": variable_density_mask((12, 15), 3),
    "everything": torch.ones(9, 8),
    "points, even": variable_density_mask((10, 16), 4, seed=3),
}
cases = pytest.mark.parametrize("mask", CASES.values(), ids=CASES.keys())


def problem(mask: torch.Tensor) -> tuple[MaskedFourier, torch.Tensor, torch.Tensor]:
    shape = (mask.shape[0], 3, mask.shape[1])
    x = torch.randn(shape, generator=generator())
    y = torch.randn(shape, dtype=torch.complex64, generator=generator(1))
    return MaskedFourier(mask), x, y


@cases
def test_the_adjoint_is_the_adjoint(mask: torch.Tensor):
    operator, x, y = problem(mask)
    assert valid_adjoint(operator.A, operator.T, x, y)


@cases
def test_the_norm_is_that_of_power_iteration(mask: torch.Tensor):
    operator, x, _ = problem(mask)
    found = operator_norm_squared(operator, tuple(x.shape), iterations=100)
    assert 0.95 * operator.norm_squared < found < (1 + 1e-5) * operator.norm_squared


@cases
@pytest.mark.parametrize("steps", [0, 1, 7, 3.3])
@pytest.mark.parametrize("step_size", [1.0, 0.3])
def test_the_closed_form_is_that_many_steps(mask: torch.Tensor, steps: float, step_size: float):
    operator, x, y = problem(mask)
    y = y * operator.mask
    expected = explicit_descent(operator, x, y, steps, step_size)
    got = operator.descend(x, y, steps, step_size)
    assert got.dtype == torch.float32
    assert torch.allclose(got, expected, atol=1e-5)
    assert steps == 0 or not torch.allclose(got, x, atol=1e-2)


@cases
def test_what_was_not_measured_does_not_matter(mask: torch.Tensor):
    operator, x, y = problem(mask)
    nothing, unknown = torch.tensor(0.0), torch.tensor(torch.nan)
    zero, nan = (torch.where(operator.mask > 0, y, v) for v in (nothing, unknown))
    assert torch.equal(operator.descend(x, zero, 3, 0.5), operator.descend(x, nan, 3, 0.5))


def test_everything_measured_is_everything_known():
    operator, x, _ = problem(CASES["everything"])
    y = operator.A(x)
    assert torch.allclose(operator.T(y), x, atol=1e-5)
    assert torch.allclose(operator.descend(torch.zeros_like(x), y, 1, 1.0), x, atol=1e-5)


def test_half_of_a_real_images_spectrum_is_all_of_it():
    mask = torch.zeros(8, 9)
    mask[:, :5] = 1  # columns 5 to 8 are the negative frequencies of 4 to 1
    operator, x, _ = problem(mask)
    got = operator.descend(torch.zeros_like(x), operator.A(x), 200, 1.0)
    assert torch.allclose(got, x, atol=1e-5)


@pytest.mark.parametrize(
    ("mask", "shape", "words"),
    [
        (torch.ones(8, 9), (9, 8), "transpose it"),
        (torch.ones(8, 9), (16, 16), "does not fit the image"),
        (torch.ones(8), None, "one value per frequency"),
        (torch.fft.fftshift(CASES["points"]), None, "ifftshift a centred mask"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(mask, shape, words: str):
    with pytest.raises(InputError, match=words):
        MaskedFourier(mask, shape)


def test_images_and_data_that_do_not_fit_the_mask_are_refused():
    operator = MaskedFourier(torch.ones(8, 9))
    for use in (operator.A, operator.T, lambda x: operator.descend(x, x, 1, 1.0)):
        with pytest.raises(InputError, match="the mask is of images"):
            use(torch.zeros(9, 1, 8))


@pytest.mark.parametrize(
    "data",
    [
        torch.zeros(8, 3, 8, dtype=torch.complex64),
        torch.zeros(8, 2, 9, dtype=torch.complex64),
        torch.zeros(8, 1, 9, dtype=torch.complex64),
        torch.zeros(8, 3, 9),
        torch.full((8, 3, 9), torch.nan, dtype=torch.complex64),
    ],
)
def test_data_that_are_not_the_images_samples_are_refused(data: torch.Tensor):
    with pytest.raises(InputError, match="data"):
        MaskedFourier(torch.ones(8, 9)).descend(torch.zeros(8, 3, 9), data, 1, 1.0)


def test_samples_that_the_mask_leaves_out_are_refused():
    """A centred spectrum with a mask that is not centred has such samples."""
    mask = CASES["points"]
    operator, x, y = problem(mask)
    y = torch.fft.fftshift(operator.mask * y, dim=(0, 2))
    with pytest.raises(InputError, match="ifftshift centred samples"):
        operator.descend(x, y, 1, 1.0)
