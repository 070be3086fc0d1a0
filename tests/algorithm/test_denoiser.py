"""Rows denoised window by window: nothing shows of the windows."""

from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ddgm_dist.algorithm.denoiser import denoise_rows
from ddgm_dist.core.box import Box
from ddgm_dist.core.window import WindowLattice, make_lattice

DOMAIN = (-20, 180)
TILED = make_lattice(DOMAIN, max_width=64, overlap=24, stride=8)
SINGLE = make_lattice(DOMAIN, max_width=512, overlap=24, stride=8)


@dataclass
class Spy:
    """Keeps its calls; averages over ``2 radius + 1`` neighbours in z and x."""

    radius: int = 0
    stride: int = 8
    calls: list[tuple[Tensor, float, Tensor]] = field(default_factory=list)

    def __call__(self, x: Tensor, sigma: float, inside: Tensor) -> Tensor:
        self.calls.append((x, sigma, inside))
        size = 2 * self.radius + 1
        kernel = torch.linspace(1, 2, size * size).reshape(1, 1, size, size) / size**2
        if self.radius == 0:
            return x.clone()
        return F.conv2d(x[:, None], kernel, padding=self.radius)[:, 0]


def denoise(spy: Spy, x: Tensor, box: Box, lattice: WindowLattice, iteration: int = 0) -> Tensor:
    return denoise_rows(spy, x, 0.5, box=box, lattice=lattice, seed=4, iteration=iteration)


def block(start: int, stop: int, thickness: int = 12, rows: int = 3) -> tuple[Tensor, Box]:
    full = torch.randn(thickness, rows, 200, generator=torch.Generator().manual_seed(0))
    box = Box((0, 5, start), (thickness, 5 + rows, stop))
    return full[..., start + 20 : stop + 20].clone(), box


@pytest.mark.parametrize("lattice", [TILED, SINGLE], ids=["tiled", "single"])
@pytest.mark.parametrize("columns", [(-20, 180), (0, 61), (33, 34)])
@pytest.mark.parametrize("iteration", [0, 1, 7])
def test_a_denoiser_that_does_nothing_does_nothing(
    lattice: WindowLattice, columns: tuple[int, int], iteration: int
):
    x, box = block(*columns)
    kept = x.clone()
    assert torch.allclose(denoise(Spy(), x, box, lattice, iteration), x, atol=1e-6)
    assert torch.equal(x, kept), "the input was changed"


@pytest.mark.parametrize("lattice", [TILED, SINGLE], ids=["tiled", "single"])
def test_every_call_has_the_same_shape_and_is_told_what_is_specimen(lattice: WindowLattice):
    spy = Spy()
    for columns in [(-20, 180), (0, 61), (150, 180)]:
        x, box = block(*columns)
        denoise(spy, x, box, lattice)
    assert len(spy.calls) >= 3
    for noisy, sigma, inside in spy.calls:
        assert noisy.shape == inside.shape == (3, 16, lattice.width)
        assert sigma == 0.5
        assert set(inside.unique().tolist()) <= {0.0, 1.0}
        assert (noisy[inside == 0] == 0).all()
        assert (inside[:, 12:] == 0).all()
        assert inside.sum() > 0


@pytest.mark.parametrize("iteration", [0, 1, 7])
def test_a_local_denoiser_does_not_show_the_windows(iteration: int):
    # Receptive field 6 = the quarter of the overlap that carries no weight.
    x, box = block(*DOMAIN)
    tiled = denoise(Spy(radius=6), x, box, TILED, iteration)
    whole = denoise(Spy(radius=6), x, box, SINGLE, iteration)
    assert torch.allclose(tiled, whole, atol=2e-5)


def test_a_tile_gets_what_the_whole_gets_away_from_its_edges():
    x, box = block(*DOMAIN)
    part, inner = block(10, 150)
    whole = denoise(Spy(radius=2), x, box, TILED, 3)
    tile = denoise(Spy(radius=2), part, inner, TILED, 3)
    assert torch.allclose(tile[..., 2:-2], whole[..., 32:168], atol=1e-6)
    assert torch.equal(tile[..., 64:-64], whole[..., 94:106]), "the same windows, the same bits"
