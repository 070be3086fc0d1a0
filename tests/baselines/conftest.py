"""Small problems whose matrices can be written out."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.operators.slab.basis import SlabBasis, period
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator

FAN = tuple(float(a) for a in range(-60, 61, 15))
SHORT = Geometry(FAN, 4, 2, 16)
ISOLATED = replace(SHORT, boundary="vacuum")
ROWS, WIDTH = 2, 16


class Toy:
    """A problem with its dense matrix: per row, ``A`` (tilt * length, z * columns), float64."""

    def __init__(
        self, geometry: Geometry, background: float, missing: float, length: int = 16
    ) -> None:
        columns = (0, WIDTH)
        basis = SlabBasis(geometry, max(length, period(geometry, WIDTH)))
        self.operator = SlabOperator(geometry, columns, background=background, basis=basis)
        generator = torch.Generator().manual_seed(3)
        shape = (geometry.tilts, ROWS, self.operator.length)
        self.truth = torch.randn(geometry.thickness, ROWS, WIDTH, generator=generator)
        clutter = 0.1 * torch.randn(shape, generator=generator)
        measured = (torch.rand(shape, generator=generator) >= missing).float()
        b = self.operator.A(self.truth) + clutter
        self.data = SlabData(measured * b, measured)

    @property
    def noiseless(self) -> SlabData:
        return SlabData(self.data.measured * self.operator.A(self.truth), self.data.measured)

    def matrix(self) -> Tensor:
        depth = self.operator.geometry.thickness
        unit = torch.eye(depth * WIDTH).reshape(depth * WIDTH, depth, WIDTH).permute(1, 0, 2)
        return self.operator.A_linear(unit).permute(1, 0, 2).flatten(1).double().T

    def rows(self, y: Tensor) -> Tensor:
        """``(n, rows, m)`` as one column vector per row, float64 ``(n * m, rows)``."""
        return y.permute(1, 0, 2).flatten(1).double().T

    def volume(self, columns: Tensor) -> Tensor:
        """Inverse of :meth:`rows` for volumes."""
        depth = self.operator.geometry.thickness
        return columns.T.reshape(-1, depth, WIDTH).permute(1, 0, 2)

    def masked(self, row: int) -> tuple[Tensor, Tensor]:
        """``S A`` and ``S (b - A 0)`` of one row, float64."""
        S = self.rows(self.data.measured)[:, row]
        outside = self.operator.A(torch.zeros_like(self.truth))
        b = self.rows(self.data.stretched - outside)[:, row]
        return S[:, None] * self.matrix(), S * b


CASES = {
    "whole": (SHORT, 0.0, 0.0),
    "masked": (SHORT, 0.0, 0.3),
    "cropped, masked": (SHORT, 0.0, 0.3, 24),
    "vacuum": (ISOLATED, -0.7, 0.0),
    "isolated, masked": (ISOLATED, -0.7, 0.3),
}


@pytest.fixture(params=CASES, ids=CASES.keys())
def toy(request: pytest.FixtureRequest) -> Toy:
    return Toy(*CASES[request.param])


@pytest.fixture
def whole() -> Toy:
    return Toy(*CASES["whole"])


def seen(operator: SlabOperator, x: Tensor, cut: float) -> Tensor:
    """The part of x in modes whose singular value is at least ``cut`` times the largest."""
    keep = operator.basis.values >= cut**2 * operator.basis.values.max()
    return operator.from_modes(operator.to_modes(x) * keep[:, :, None])


def noise_of(x: Tensor):
    """Addressed noise of the shape of x."""

    def noise(n: int) -> Tensor:
        return torch.randn(x.shape, generator=torch.Generator().manual_seed(100 + n))

    return noise


@pytest.fixture(name="seen")
def seen_fixture():
    return seen


@pytest.fixture(name="noise_of")
def noise_of_fixture():
    return noise_of


@pytest.fixture
def crowd() -> tuple[SlabOperator, Tensor]:
    """A whole-period operator and a truth of many rows, for statistics."""
    geometry = replace(SHORT, rows=300)
    generator = torch.Generator().manual_seed(4)
    return SlabOperator(geometry, (0, WIDTH)), torch.randn(4, 300, WIDTH, generator=generator)
