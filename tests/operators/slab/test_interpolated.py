"""Laws of the spatial projector, the independent reference."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.operators.slab.basis import norm_squared
from ddgm_dist.operators.slab.interpolated import InterpolatedOperator, cubic_weights
from tests.adjoint import valid_adjoint

FAN = tuple(float(a) for a in range(-60, 61, 15))
SHIFTS = tuple((0.0, 0.7 * t - 3) for t in range(len(FAN)))
CASES = {
    "even": Geometry(FAN, 12, 3, 40),
    "odd": Geometry(FAN, 13, 3, 41),
    "one tilt": Geometry((35.0,), 12, 3, 40),
    "steep": Geometry((-70.0, 0.0, 70.0), 12, 3, 40),
    "unequal": Geometry((-61.0, -12.0, 3.0, 33.3), 12, 3, 40),
    "shifted": Geometry(FAN, 12, 3, 40, SHIFTS),
    "vacuum": Geometry(FAN, 12, 3, 40, SHIFTS, "vacuum"),
}
cases = pytest.mark.parametrize("geometry", CASES.values(), ids=CASES.keys())


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cases
def test_the_adjoint_is_the_adjoint(geometry: Geometry):
    operator = InterpolatedOperator(geometry)
    width = operator.columns[1] - operator.columns[0]
    x = torch.randn(geometry.thickness, 3, width, generator=generator())
    y = torch.randn(geometry.tilts, 3, geometry.field, generator=generator(1))
    assert valid_adjoint(operator.A, operator.T, x, y)


def test_untilted_it_adds_up_along_z():
    x = torch.randn(9, 2, 30, generator=generator())
    operator = InterpolatedOperator(Geometry((0.0,), 9, 2, 30))
    assert torch.allclose(operator.A(x)[0], x.sum(dim=0), atol=1e-5)


def test_a_constant_slab_projects_to_its_path():
    geometry = Geometry(FAN, 12, 1, 40)
    operator = InterpolatedOperator(geometry)
    inside = operator.measured()[:, 0] > 0
    out = operator.A(torch.ones(12, 1, 40 + 2 * geometry.reach))[:, 0]
    for t, theta in enumerate(geometry.angles):
        central = inside[t].nonzero().flatten()[3:-3]
        assert len(central) > 10
        assert torch.allclose(out[t, central], torch.tensor(12 / math.cos(theta)), rtol=1e-5)


def test_tilts_may_come_in_any_order():
    order = torch.randperm(len(FAN), generator=generator()).tolist()
    a = InterpolatedOperator(CASES["shifted"])
    b = InterpolatedOperator(
        Geometry(tuple(FAN[i] for i in order), 12, 3, 40, tuple(SHIFTS[i] for i in order))
    )
    x = torch.randn(12, 3, a.columns[1] - a.columns[0], generator=generator())
    assert torch.equal(b.A(x), a.A(x)[order])
    assert torch.equal(b.measured(), a.measured()[order])


@cases
def test_descent_lowers_the_masked_error(geometry: Geometry):
    operator = InterpolatedOperator(geometry)
    y = torch.randn(geometry.tilts, 3, geometry.field, generator=generator())
    x = torch.zeros(geometry.thickness, 3, operator.columns[1] - operator.columns[0])
    errors = []
    for _ in range(5):
        errors.append(float((operator.measured() * (operator.A(x) - y)).square().sum()))
        x = operator.descend(x, y, 3, 1 / norm_squared(geometry))
    assert all(b <= a + 1e-6 * errors[0] for a, b in pairwise(errors))
    assert errors[-1] < 0.5 * errors[0]


def test_rays_that_leave_the_columns_are_not_measured():
    geometry = Geometry((-60.0, 0.0, 45.0), 12, 1, 40, ((0, 2.0), (0, 0.0), (0, -1.0)))
    operator = InterpolatedOperator(geometry, (4, 36))
    wide = InterpolatedOperator(geometry, (-60, 100))
    outside = torch.ones(12, 1, 160)
    outside[..., 60 + 4 - 2 : 60 + 36 + 2] = 0
    seen = wide.A(outside).abs() > 1e-5
    measured = operator.measured() > 0
    assert not (seen & measured).any()
    assert measured.any()
    assert (~measured[2]).any()


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.floats(-20, 20), st.floats(-2, 2), st.floats(-2, 2), st.floats(-2, 2))
def test_cubic_convolution_reproduces_quadratics(position: float, a: float, b: float, c: float):
    first, weight = cubic_weights(torch.tensor([position], dtype=torch.float64))
    tap = (first[:, None] + torch.arange(4)).double()
    got = float(((a * tap**2 + b * tap + c) * weight).sum())
    assert got == pytest.approx(a * position**2 + b * position + c, abs=1e-9)
