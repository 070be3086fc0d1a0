"""Rows restored window by window: nothing shows of the windows, and neighbours are the neighbours."""

from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ddgm_dist.algorithm.restorer import DARK, Acquisition, restore_rows
from ddgm_dist.core.box import Box
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.window import WindowLattice, make_lattice

DOMAIN = (-20, 180)
TILED = make_lattice(DOMAIN, max_width=64, overlap=24, stride=8)
SINGLE = make_lattice(DOMAIN, max_width=512, overlap=24, stride=8)
SEEN = Acquisition((-50.0, 0.0, 50.0), 12)
ROWS = 3


@dataclass
class Spy:
    """Keeps its calls; sums the neighbours with weights 1, 2, 3, ..., each averaged along x."""

    neighbours: int = 0
    radius: int = 0
    stride: int = 8
    repeats: bool = True
    calls: list[tuple[Tensor, float, Acquisition, Tensor]] = field(default_factory=list)
    estimates: list[Tensor | None] = field(default_factory=list)

    def __call__(
        self,
        images: Tensor,
        noise: float,
        acquisition: Acquisition,
        coverage: Tensor,
        estimates: Tensor | None = None,
    ) -> Tensor:
        self.calls.append((images, noise, acquisition, coverage))
        self.estimates.append(estimates)
        if estimates is not None:
            return estimates[:, 0] + 2 * estimates[:, 1]
        weight = 1 + torch.arange(images.shape[1], dtype=torch.float32)
        size = 2 * self.radius + 1
        kernel = (weight[:, None] / size).expand(-1, size)[None, :, None]
        return F.conv2d(images, kernel, padding=(0, self.radius))[:, 0]


def restore(
    spy: Spy,
    x_w: Tensor,
    lattice: WindowLattice,
    start: int = -20,
    estimates: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    box = Box((0, 4, start), (12, 4 + ROWS, start + x_w.shape[2]))
    seen = torch.linspace(0, 1, 200).expand(12, 1, -1)[..., start + 20 : start + 20 + x_w.shape[2]]
    return restore_rows(
        spy, x_w, 0.5, SEEN, coverage=seen, box=box, lattice=lattice, estimates=estimates
    )


def inverses(neighbours: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, ROWS + 2 * neighbours, 200, generator=generator)


@pytest.mark.parametrize("lattice", [TILED, SINGLE], ids=["tiled", "single"])
@pytest.mark.parametrize("neighbours", [0, 1, 2])
def test_each_row_is_restored_from_its_own_neighbours(
    lattice: WindowLattice, neighbours: int
) -> None:
    x_w = inverses(neighbours)
    found = restore(Spy(neighbours), x_w, lattice)
    for row in range(ROWS):
        near = [(k + 1) * x_w[:, row + k] for k in range(2 * neighbours + 1)]
        torch.testing.assert_close(found[:, row], sum(near[1:], near[0]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("lattice", [TILED, SINGLE], ids=["tiled", "single"])
def test_every_call_has_the_same_shape_and_is_told_what_is_specimen(lattice: WindowLattice) -> None:
    spy = Spy(1)
    for start, stop in [(-20, 180), (0, 61), (150, 180)]:
        restore(spy, inverses(1)[..., start + 20 : stop + 20], lattice, start)
    assert len(spy.calls) >= 3
    for images, noise, acquisition, coverage in spy.calls:
        assert images.shape == (ROWS, 3, 16, lattice.width)
        assert coverage.shape == (ROWS, 16, lattice.width)
        assert (noise, acquisition) == (0.5, SEEN)
        inside = coverage > 0
        assert (images * ~inside[:, None] == 0).all()
        assert not inside[:, 12:].any()
        assert inside.any()
        assert float(coverage[inside].min()) >= DARK
        assert float(coverage.max()) <= 1


def test_a_local_restorer_does_not_show_the_windows() -> None:
    x_w = inverses(1)
    tiled, whole = (restore(Spy(1, radius=6), x_w, lattice) for lattice in (TILED, SINGLE))
    torch.testing.assert_close(tiled, whole, rtol=0, atol=5e-5)


def test_a_tile_gets_what_the_whole_gets_away_from_its_edges() -> None:
    x_w = inverses(1)
    whole = restore(Spy(1, radius=2), x_w, TILED)
    tile = restore(Spy(1, radius=2), x_w[..., 30:170], TILED, 10)
    assert torch.equal(tile[..., 64:-64], whole[..., 94:106]), "the same windows, the same bits"


@pytest.mark.parametrize("lattice", [TILED, SINGLE], ids=["tiled", "single"])
def test_a_repeated_call_is_given_the_estimates_of_its_own_rows(lattice: WindowLattice) -> None:
    spy = Spy(1)
    before, corrected = torch.randn(2, 12, ROWS, 200, generator=torch.Generator().manual_seed(1))
    found = restore(spy, inverses(1), lattice, estimates=(before, corrected))
    torch.testing.assert_close(found, before + 2 * corrected, rtol=0, atol=1e-5)
    assert all(given is not None and given.shape[1] == 2 for given in spy.estimates)
    restore(spy, inverses(1), lattice)
    assert spy.estimates[-1] is None


def test_an_acquisition_is_of_a_geometry() -> None:
    geometry = Geometry((-50.0, 0.0, 50.0), thickness=12, rows=3, field=100)
    assert Acquisition.of(geometry) == SEEN
