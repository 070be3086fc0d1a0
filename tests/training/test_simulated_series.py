"""Simulated series follow the operator, and their inverses the formula."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.operators.slab.basis import from_fourier
from ddgm_dist.operators.slab.operator import SlabOperator
from ddgm_dist.training.field_ends import FieldEnds
from ddgm_dist.training.simulated_series import SimulatedSeries

DEPTH, ROWS, WIDTH = 6, 2, 24
ANGLES = (-50.0, -25.0, 0.0, 10.0, 40.0)
ACQUISITION = Acquisition(ANGLES, DEPTH)


def operator() -> SlabOperator:
    geometry = Geometry(ANGLES, DEPTH, ROWS, WIDTH)
    return SlabOperator(geometry, (0, WIDTH))


def tissue(blocks: int = 1) -> Tensor:
    return torch.randn(DEPTH, blocks * ROWS, WIDTH, generator=torch.Generator().manual_seed(3))


def dense(op: SlabOperator) -> Tensor:
    """A as a matrix over one row, float64."""
    unit = torch.eye(DEPTH * WIDTH).reshape(-1, DEPTH, 1, WIDTH)
    return torch.stack([op.A(x).flatten() for x in unit], dim=1).double()


def test_projections_are_the_operator_s() -> None:
    clean = tissue()
    series = SimulatedSeries(ACQUISITION, clean, ROWS)
    torch.testing.assert_close(from_fourier(series.b, ROWS, WIDTH), operator().A(clean))


@pytest.mark.parametrize("masked", [False, True])
def test_inverses_solve_the_normal_equations(masked: bool) -> None:
    clean, noises = tissue(2), [0.2, 0.6]
    series = SimulatedSeries(ACQUISITION, clean, ROWS)
    measured = torch.ones(len(ANGLES), WIDTH)
    field = None
    if masked:
        measured[:, :7] = 0
        measured[2:, 18:] = 0
        field = FieldEnds(0, WIDTH, measured)
    noise = torch.tensor(noises) * 3
    data = series.b
    found = series._solved(data, noise, field)
    A, S = dense(operator()), measured[:, None].expand(-1, 1, -1).flatten().double()
    for line in range(clean.shape[1]):
        b = from_fourier(data, clean.shape[1], WIDTH)[:, line].flatten().double()
        normal = A.T @ (S[:, None] * A) + float(noise[line // ROWS]) ** 2 * torch.eye(len(A.T))
        exact = torch.linalg.solve(normal, A.T @ (S * b)).reshape(DEPTH, WIDTH)
        error = float((found[:, line] - exact).norm() / exact.norm())
        assert error < (0.15 if masked else 1e-4), line


def test_noise_is_white_and_as_strong_as_was_asked_for() -> None:
    width, rows = 64, 40
    clean = torch.randn(DEPTH, rows, width, generator=torch.Generator().manual_seed(4))
    series = SimulatedSeries(ACQUISITION, clean, rows)
    kept: list[Tensor] = []
    series._solved = lambda data, told, field: kept.append(data) or data  # type: ignore[assignment]
    _, told = series.inverses(np.random.default_rng(0), [0.5], None, None)
    noise = from_fourier(kept[0] - series.b, rows, width)
    cos = np.cos(np.radians(ANGLES))
    # On the stretched grid white noise of the detector fills the band, a share cos of the spectrum.
    power = noise.square().mean(dim=(1, 2)).numpy()
    assert power / cos == pytest.approx(float(told[0]) ** 2, rel=0.15)
    projections = from_fourier(series.b, rows, width)
    projections = projections - projections.mean(dim=2, keepdim=True)
    spread = float((projections.square().mean(dim=(1, 2)).sum() / cos.sum()).sqrt())
    assert float(told[0]) == pytest.approx(0.5 * spread, rel=0.02)
