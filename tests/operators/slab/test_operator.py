"""Laws of the spectral slab operator."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddgm_dist.algorithm.descent import explicit_descent
from ddgm_dist.algorithm.schedule import IMPUTED_EVERY
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.basis import SlabBasis, fast_length, norm_squared, step_factor
from ddgm_dist.operators.slab.interpolated import InterpolatedOperator
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator
from tests.adjoint import valid_adjoint

FAN = tuple(float(a) for a in range(-60, 61, 10))
SHIFTS = tuple((0.0, 0.7 * t - 4) for t in range(len(FAN)))
UNEQUAL = (-61.0, -47.5, -12.0, 3.0, 4.0, 33.3)
CASES = {
    "even": Geometry(FAN, 12, 3, 40),
    "odd": Geometry(FAN, 13, 3, 41),
    "thin": Geometry(FAN, 1, 3, 40),
    "one tilt": Geometry((35.0,), 12, 3, 40),
    "untilted": Geometry((0.0,), 7, 3, 40),
    "steep": Geometry((-70.0, 0.0, 70.0), 12, 3, 40),
    "unequal": Geometry(UNEQUAL, 12, 3, 40),
    "shifted": Geometry(FAN, 12, 3, 40, SHIFTS),
    "vacuum": Geometry(FAN, 12, 3, 40, boundary="vacuum"),
    "isolated, odd, shifted": Geometry(FAN, 13, 3, 41, SHIFTS, "vacuum"),
    "isolated, steep": Geometry((-70.0, 5.0, 70.0), 12, 3, 40, boundary="vacuum"),
}
cases = pytest.mark.parametrize("geometry", CASES.values(), ids=CASES.keys())
slabs = pytest.mark.parametrize(
    "geometry",
    [g for g in CASES.values() if g.boundary == "extended"],
    ids=[name for name, g in CASES.items() if g.boundary == "extended"],
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def volume(operator: SlabOperator, seed: int = 0) -> Tensor:
    width = operator.columns[1] - operator.columns[0]
    return torch.randn(operator.geometry.thickness, 3, width, generator=generator(seed))


def projections(operator: SlabOperator, seed: int = 1) -> Tensor:
    return torch.randn(operator.geometry.tilts, 3, operator.length, generator=generator(seed))


def whole_period(geometry: Geometry, length: int = 48) -> SlabOperator:
    """An operator whose columns are its whole period, so that nothing is cropped."""
    operator = SlabOperator(replace(geometry, boundary="extended"), (-3, length - 3))
    assert operator.length == length
    return operator


@cases
def test_the_adjoint_is_the_adjoint(geometry: Geometry):
    operator = SlabOperator(geometry)
    assert valid_adjoint(operator.A, operator.T, volume(operator), projections(operator))


@slabs
def test_it_is_the_matrix_of_its_formula(geometry: Geometry):
    operator = whole_period(geometry)
    x = volume(operator)
    k = 2 * math.pi * torch.arange(25, dtype=torch.float64) / 48
    z = torch.arange(geometry.thickness, dtype=torch.float64) - (geometry.thickness - 1) / 2
    spectrum = torch.fft.rfft(x.double())
    for t, theta in enumerate(geometry.angles):
        matrix = torch.exp(-1j * k * z[:, None] * math.tan(theta)) / math.cos(theta)
        matrix = matrix * math.sqrt(math.cos(theta)) * (k <= math.pi * math.cos(theta) + 1e-9)
        expected = torch.fft.irfft((matrix[:, None] * spectrum).sum(dim=0), n=48)
        got = operator.A(x)[t].double()
        assert float((got - expected).norm()) < 1e-5 * float(expected.norm())


@slabs
@pytest.mark.parametrize("steps", [0, 0.5, 1, 3.25, 25, 60.5])
def test_the_closed_form_is_that_many_explicit_steps(geometry: Geometry, steps: float):
    operator = whole_period(geometry)
    x, y = volume(operator), projections(operator)
    eta = 1 / norm_squared(geometry)
    got, error = operator.descend(x, SlabData(y, torch.ones(1, 1, 1)), steps, eta)
    expected = explicit_descent(operator, x, y, steps, eta)
    assert float((got - expected).norm()) < 1e-4 * float(expected.norm())
    assert float(error) == pytest.approx(float((y - operator.A(x)).square().sum()), rel=1e-5)
    if steps:
        assert float((got - x).norm()) > 1e-3 * float(x.norm())


@slabs
def test_with_rays_missing_it_is_explicit_steps_on_imputed_data(geometry: Geometry):
    operator = whole_period(geometry)
    x, y = volume(operator), projections(operator)
    measured = (torch.rand(y.shape, generator=generator(2)) > 0.4).float()
    eta = 1 / norm_squared(geometry)
    got, error = operator.descend(x, SlabData(y, measured), 10, eta)
    imputed = measured * y + (1 - measured) * operator.A(x)
    expected = explicit_descent(operator, x, imputed, 10, eta)
    assert float((got - expected).norm()) < 1e-4 * float(expected.norm())
    masked = (measured * (y - operator.A(x))).square().sum()
    assert float(error) == pytest.approx(float(masked), rel=1e-5)


@slabs
@pytest.mark.parametrize("rest", [0, 10, 0.5])
def test_what_is_missing_is_imputed_afresh_between_runs_of_steps(geometry: Geometry, rest: float):
    operator = whole_period(geometry)
    x, y = volume(operator), projections(operator)
    measured = (torch.rand(y.shape, generator=generator(2)) > 0.4).float()
    data, eta = SlabData(y, measured), 1 / norm_squared(geometry)
    got, error = operator.descend(x, data, 2 * IMPUTED_EVERY + rest, eta)
    expected, first = operator.descend(x, data, IMPUTED_EVERY, eta)
    for steps in (IMPUTED_EVERY, rest):
        expected, _ = operator.descend(expected, data, steps, eta)
    assert torch.equal(got, expected)
    assert torch.equal(error, first)


@slabs
def test_imputed_at_every_step_it_is_masked_descent(geometry: Geometry):
    operator = whole_period(geometry)
    x, y = volume(operator), projections(operator)
    measured = (torch.rand(y.shape, generator=generator(2)) > 0.4).float()
    data, eta = SlabData(y, measured), 1 / norm_squared(geometry)
    expected = explicit_descent(operator, x, y, 5, eta, measured=measured)
    for _ in range(5):
        x, _ = operator.descend(x, data, 1, eta)
    assert float((x - expected).norm()) < 1e-4 * float(expected.norm())


def errors_of_descents(
    operator: SlabOperator, data: SlabData, x: Tensor, steps: float, eta: float
) -> list[float]:
    errors = []
    for _ in range(8):
        x, error = operator.descend(x, data, steps, eta)
        errors.append(float(error))
    return [*errors, float(operator.residual(x, data).square().sum())]


def worst_rise(errors: list[float]) -> float:
    return max((b - a) / errors[0] for a, b in pairwise(errors))


@slabs
@pytest.mark.parametrize("steps", [1, 2.5, 25, 400])
@pytest.mark.parametrize("boldness", [1.0, 1.9])
def test_the_masked_error_never_rises(geometry: Geometry, steps: float, boldness: float):
    operator = whole_period(geometry)
    measured = (torch.rand(projections(operator).shape, generator=generator(2)) > 0.5).float()
    data = SlabData(projections(operator) * measured, measured)
    eta = boldness / norm_squared(geometry)
    errors = errors_of_descents(operator, data, volume(operator), steps, eta)
    assert worst_rise(errors) < 1e-5
    assert errors[-1] < 0.95 * errors[0]


@cases
@pytest.mark.parametrize("steps", [1, 25])
def test_from_zero_the_error_of_real_masks_never_rises(geometry: Geometry, steps: float):
    operator = SlabOperator(geometry)
    data = operator.prepare(torch.randn(geometry.tilts, 3, geometry.field, generator=generator()))
    start = torch.zeros_like(volume(operator))
    errors = errors_of_descents(operator, data, start, steps, 1 / norm_squared(geometry))
    assert worst_rise(errors) < 1e-5
    assert errors[-1] < 0.95 * errors[0]


@cases
def test_the_norm_is_what_power_iteration_finds(geometry: Geometry):
    operator = whole_period(geometry)
    # The norm is at k = 0; noise lets any other mode win if it were larger.
    x = 1 + 0.3 * volume(operator)
    for _ in range(60):
        x = operator.T(operator.A(x / x.norm()))
    assert float(x.norm()) == pytest.approx(norm_squared(geometry), rel=1e-3)


def test_tilts_may_come_in_any_order():
    geometry = CASES["shifted"]
    order = torch.randperm(geometry.tilts, generator=generator()).tolist()
    shuffled = replace(
        geometry,
        angles_deg=tuple(geometry.angles_deg[i] for i in order),
        shifts_px=tuple(geometry.shifts_px[i] for i in order),
    )
    a, b = SlabOperator(geometry), SlabOperator(shuffled)
    x = volume(a)
    assert torch.allclose(b.A(x), a.A(x)[order], atol=1e-5)
    y = torch.randn(geometry.tilts, 3, geometry.field, generator=generator())
    eta = 1 / norm_squared(geometry)
    assert norm_squared(shuffled) == pytest.approx(norm_squared(geometry))
    one, two = a.descend(x, a.prepare(y), 25, eta), b.descend(x, b.prepare(y[order]), 25, eta)
    assert float((one[0] - two[0]).norm()) < 1e-5 * float(one[0].norm())
    assert float(one[1]) == pytest.approx(float(two[1]), rel=1e-5)


def test_measured_rays_see_nothing_outside_the_columns():
    geometry = Geometry(FAN, 16, 1, 80)
    wide = InterpolatedOperator(geometry, (-60, 140))
    outside = torch.ones(16, 1, 200)
    operator = SlabOperator(geometry, (10, 80))
    outside[..., 60 + 10 - 2 : 60 + 80 + 2] = 0
    data = operator.prepare(wide.A(outside))
    assert float(data.stretched.abs().max()) < 0.2  # of 16 and more: the kernel's ripple
    assert float(wide.A(outside).max()) > 16
    # ... and are all that do not.
    inside = data.measured[:, 0, : operator.columns[1] - operator.columns[0]]
    for t, theta in enumerate(geometry.angles):
        spread = 7.5 * abs(math.tan(theta))
        s = torch.arange(10, 80)
        u = (s - 39.5) * math.cos(theta) + 39.5
        fits = (s - spread >= 10) & (s + spread <= 79) & (u >= 0) & (u <= 79)
        assert torch.equal(inside[t] > 0, fits)


def test_an_isolated_specimen_counts_every_ray_on_the_detector():
    geometry = Geometry((-60.0, 0.0, 45.0), 16, 1, 80, boundary="vacuum")
    data = SlabOperator(geometry).prepare(torch.zeros(3, 1, 80))
    for t, theta in enumerate(geometry.angles):
        # Columns of s under the detector, or all there are.
        under = min(79 / math.cos(theta), SlabOperator(geometry).length)
        assert float(data.measured[t].sum()) == pytest.approx(under, abs=2)


def test_a_projection_of_an_isolated_specimen_does_not_wrap():
    geometry = Geometry((-65.0, 65.0), 20, 1, 30, boundary="vacuum")
    operator = SlabOperator(geometry)
    x = torch.zeros(20, 1, 30)
    x[19, 0, 26:29] = 1  # leaves the columns on one side, and must not enter on the other
    out = operator.A(x)[:, 0].abs()
    for t, theta in enumerate(geometry.angles):
        s = 27 + 9.5 * math.tan(theta) - operator.grid_start
        columns = torch.arange(operator.length)
        assert 0 < s < operator.length
        near = (columns - s).abs() <= 12
        assert float(out[t][near].square().sum()) > 0.95 * float(out[t].square().sum())


def test_distrusted_pixels_are_not_measured_and_do_not_matter():
    geometry = Geometry((-30.0, 0.0, 40.0), 8, 3, 60)
    operator = SlabOperator(geometry)
    y = torch.randn(3, 3, 60, generator=generator())
    valid = torch.ones_like(y)
    valid[1, 2, 17] = 0
    data = operator.prepare(y, valid)
    all_measured = operator.prepare(y).measured.expand(data.stretched.shape)
    lost = (all_measured - data.measured).nonzero().tolist()
    assert lost == [[1, 2, 17 - operator.grid_start]]
    assert (data.stretched[data.measured == 0] == 0).all()


def test_operators_of_other_columns_share_a_basis_and_its_bits():
    geometry = Geometry(FAN, 12, 3, 100)
    basis = SlabBasis(geometry, 60)
    y = torch.randn(geometry.tilts, 3, 100, generator=generator())
    a, b = (SlabOperator(geometry, c, basis=basis) for c in ((0, 60), (30, 90)))
    assert a.matrix is b.matrix
    one, two = a.prepare(y), b.prepare(y)
    both = (one.measured[..., 30:60] * two.measured[..., :30]).expand(-1, 3, -1) > 0
    assert both.any()
    assert torch.equal(one.stretched[..., 30:60][both], two.stretched[..., :30][both])
    # The same block in the same place of its period: the same bits wherever it lies.
    x = volume(a)
    assert torch.equal(a.A(x), b.A(x))


def test_columns_and_periods_that_cannot_work_are_refused():
    geometry = CASES["even"]
    with pytest.raises(InputError, match="at least one column") as caught:
        SlabOperator(geometry, (5, 5))
    assert caught.value.argument == "columns"
    with pytest.raises(InputError, match="shorter than") as caught:
        SlabOperator(geometry, (0, 60), basis=SlabBasis(geometry, 48))
    assert caught.value.argument == "basis"


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(1, 5000))
def test_fast_lengths_are_even_smooth_and_the_next(columns: int):
    def smooth(n: int) -> bool:
        for prime in (2, 3, 5, 7):
            while n % prime == 0:
                n //= prime
        return n == 1

    length = fast_length(columns)
    assert length >= columns
    assert length % 2 == 0
    assert smooth(length)
    assert not any(smooth(n) for n in range(columns + columns % 2, length, 2))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.floats(0, 1.9), st.integers(0, 60), st.floats(0, 0.99), st.floats(1e-4, 1))
def test_the_step_factor_is_the_sum_of_the_steps(
    rate: float, whole: int, fraction: float, eta: float
):
    eigenvalue = rate / eta
    factor, left = 0.0, 1.0
    for part in [1.0] * whole + [fraction]:
        factor += left * part * eta
        left *= 1 - part * eta * eigenvalue
    value = torch.tensor([eigenvalue, 0.0], dtype=torch.float64)
    got = step_factor(value, whole + fraction, eta)
    assert float(got[0]) == pytest.approx(factor, rel=1e-5, abs=1e-12)
    assert float(got[1]) == pytest.approx((whole + fraction) * eta, rel=1e-9)
