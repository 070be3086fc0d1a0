"""Stretching: accurate in its band, an isometry, and local.

The band up to which the relative error stays below 1e-3 is 0.75 of the detector's Nyquist
frequency.
"""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.operators.slab.stretch import (
    HALF_WIDTH,
    interpolate_rows,
    stretch,
    stretched_positions,
    stretching_part,
)

PASSBAND = 0.75
FIELD = 512


def pulse(seed: int, rows: int = 2, band: float = PASSBAND - 0.05) -> Tensor:
    """Random band-limited rows that vanish towards the detector's ends."""
    g = torch.Generator().manual_seed(seed)
    u = torch.arange(FIELD, dtype=torch.float64) - (FIELD - 1) / 2
    k = math.pi * band * torch.rand(40, generator=g, dtype=torch.float64)
    weight = torch.randn(2, rows, 40, generator=g, dtype=torch.float64)
    waves = weight[0] @ torch.cos(k[:, None] * u) + weight[1] @ torch.sin(k[:, None] * u)
    return waves * torch.exp(-((u / 50) ** 2) / 2)


def padded(angle: float) -> tuple[int, int]:
    """Columns of s that hold the whole detector."""
    reach = math.ceil(FIELD / 2 / math.cos(angle)) + 4
    return FIELD // 2 - reach, FIELD // 2 + reach


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.floats(0, PASSBAND), st.floats(-75, 75), st.floats(-3, 3), st.floats(0, 6.28))
def test_waves_in_the_band_are_read_to_a_thousandth(
    nyquists: float, degrees: float, dx: float, phase: float
):
    angle, k = math.radians(degrees), math.pi * nyquists
    detector = torch.arange(FIELD, dtype=torch.float64)
    got = stretch(torch.cos(k * detector + phase)[None], angle, dx, 60, 450)[0]
    position = stretched_positions(angle, dx, 60, 450, FIELD)
    inside = (position >= HALF_WIDTH) & (position <= FIELD - 1 - HALF_WIDTH)
    expected = math.sqrt(math.cos(angle)) * torch.cos(k * position + phase)
    assert inside.any()
    assert float((got - expected)[inside].norm()) < 1e-3 * float(expected[inside].norm())


def test_columns_are_read_where_the_geometry_says():
    # u = s cos(theta) + dx, both from the centre.
    angle = math.radians(60)
    position = stretched_positions(angle, 1.5, -4, 12, 9)
    s = torch.arange(-4, 12, dtype=torch.float64) - 4
    assert torch.allclose(position - 4, s * 0.5 + 1.5)


@pytest.mark.parametrize("degrees", [-70, -33, 0, 10, 60, 75])
def test_it_is_nearly_an_isometry(degrees: float):
    angle, dx = math.radians(degrees), 0.37
    a, b = pulse(0), pulse(1)
    ca, cb = (stretch(p, angle, dx, *padded(angle)) for p in (a, b))
    scale = float(a.norm() * b.norm())
    assert float(ca.norm()) == pytest.approx(float(a.norm()), rel=1e-3)
    assert abs(float((ca * cb).sum() - (a * b).sum())) < 1e-3 * scale


@pytest.mark.parametrize("degrees", [-60, 20])
def test_its_adjoint_undoes_it(degrees: float):
    angle = math.radians(degrees)
    signal = pulse(2)
    variable = signal.clone().requires_grad_()
    out = stretch(variable, angle, 0.37, *padded(angle))
    (back,) = torch.autograd.grad(out, variable, out.detach())  # C^T C b
    assert float((back - signal).norm()) < 2e-3 * float(signal.norm())


@pytest.mark.parametrize("degrees", [0, 35, 60])
def test_white_noise_keeps_its_variance_on_each_mode_of_the_band(degrees: float):
    angle = math.radians(degrees)
    g = torch.Generator().manual_seed(0)
    noise = 0.6 * torch.randn(4000, 512, generator=g)
    out = stretch(noise, angle, 0.37, 128, 384)
    power = torch.fft.rfft(out, norm="ortho").abs().square().mean(dim=0)
    edge = 128 * math.cos(angle)  # the band's end, in modes of 256 columns
    band = power[2 : int(0.7 * edge)]
    assert float((band / 0.36 - 1).abs().max()) < 0.1
    assert float(band.mean()) == pytest.approx(0.36, rel=0.02)
    assert float(power[math.ceil(1.35 * edge) : -1].sum()) < 0.01 * float(power.sum())


def test_a_constant_stays_that_constant_even_beyond_the_detector():
    out = stretch(torch.full((2, 50), 7.0), math.radians(50), 3.3, -60, 120)
    assert torch.allclose(out, torch.full_like(out, 7.0 * math.sqrt(math.cos(math.radians(50)))))


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(-80, 300), st.integers(1, 200), st.floats(-75, 75), st.floats(-3, 3))
def test_any_columns_get_the_same_bits(start: int, width: int, degrees: float, dx: float):
    rows = torch.randn(3, 300, generator=torch.Generator().manual_seed(0))
    angle = math.radians(degrees)
    whole = stretch(rows, angle, dx, -80, 500)
    part = stretch(rows, angle, dx, start, start + width)
    assert torch.equal(part, whole[:, start + 80 : start + 80 + width])


def test_a_value_depends_on_nearby_samples_alone():
    rows = torch.randn(1, 300, generator=torch.Generator().manual_seed(0))
    other = rows.clone()
    other[:, 150] = torch.nan
    angle = math.radians(40)
    changed = stretch(other, angle, 0.0, 0, 300).isnan()[0]
    distance = (stretched_positions(angle, 0.0, 0, 300, 300) - 150).abs()
    assert changed[distance < HALF_WIDTH - 1].all()
    assert not changed[distance > HALF_WIDTH + 1e-9].any()


def test_untilted_and_unshifted_it_changes_nothing():
    rows = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(stretch(rows, 0.0, 0.0, 0, 40), rows, atol=1e-7)
    assert torch.allclose(stretch(rows, 0.0, 2.0, 0, 30), rows[:, 2:32], atol=1e-7)


def test_rows_are_read_at_fractional_positions():
    y = torch.arange(40, dtype=torch.float64)
    plane = torch.cos(0.6 * y + 0.3)[:, None] * torch.ones(5)
    position = torch.tensor([7.0, 12.25, 20.5, 30.9], dtype=torch.float64)
    got = interpolate_rows(plane, position)
    assert torch.allclose(got[0], plane[7])
    assert torch.allclose(got[:, 0], torch.cos(0.6 * position + 0.3), atol=5e-3)


@pytest.mark.parametrize("start", [0, 123_456, 499_990, 999_000])
def test_a_part_of_a_million_columns_gives_the_same_bits_as_all(start: int):
    field, stop = 1_000_000, start + 600
    g = Geometry((-71.0, 0.0, 33.3), 8, 1, field, ((0.0, 0.25), (0.0, 0.0), (0.0, -70.5)))
    line = torch.randn(1, field, generator=torch.Generator().manual_seed(0))
    part = stretching_part(g, start, stop)
    assert part.width < 600 + 2 * HALF_WIDTH + 2
    for tilt, angle in enumerate(g.angles):
        dx, first = g.shift(tilt)[1], part.first[tilt]
        whole = stretch(line, angle, dx, start, stop)
        less = line[:, first : first + part.width]
        read = stretch(less, angle, dx, start, stop, first=first, field=field)
        assert torch.equal(read, whole)


def test_positions_are_exact_in_a_wide_field():
    """To a billionth of a pixel, although they are of the order of a million."""
    field, angle, dx = 1_000_000, math.radians(61.7), 12.34
    for start in (0, 777_777, field - 3):
        found = stretched_positions(angle, dx, start, start + 3, field)
        for i, u in enumerate(found.tolist()):
            s = Fraction(2 * (start + i) - field + 1, 2)
            exact = s * Fraction(math.cos(angle)) + Fraction(dx) + Fraction(field - 1, 2)
            assert abs(Fraction(u) - exact) < 1e-9
