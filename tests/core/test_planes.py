"""In any plane, what is denoised does not depend on how rows are cut."""

import pytest
import torch
from torch import Tensor

from ddgm_dist.core.box import Box
from ddgm_dist.core.noise import ROW_LATTICE_STREAM
from ddgm_dist.core.planes import Plane, denoise_plane, halo_rows
from ddgm_dist.core.window import WindowLattice
from ddgm_dist.prior.denoisers import UNetDenoiser
from ddgm_dist.prior.unet import UNet, UNetSpec

DEPTH, ROWS, COLUMNS, BATCH = 10, 75, 50, 6
ROWS_CUT = WindowLattice(0, 32, 12, 4, single=False, stream=ROW_LATTICE_STREAM)
COLUMNS_CUT = WindowLattice(-3, 24, 8, 4, single=False)
COLUMNS_WHOLE = WindowLattice(-3, 52, 0, 4, single=True)


class Recorder:
    """Passes images through, and keeps what it was asked."""

    stride = 4

    def __init__(self) -> None:
        self.shapes, self.inside = set[tuple[int, ...]](), list[Tensor]()

    def __call__(self, x: Tensor, sigma: float, inside: Tensor) -> Tensor:
        self.shapes.add(tuple(x.shape))
        assert not bool((x * (1 - inside)).any())
        self.inside.append(inside)
        return x * sigma


@pytest.fixture(scope="module")
def net() -> UNetDenoiser:
    torch.manual_seed(0)
    return UNetDenoiser(UNet(UNetSpec((8, 16, 16), (1, 1), (1, 1), 1, 16)).eval())


@pytest.fixture(scope="module")
def volume() -> Tensor:
    return torch.randn(DEPTH, ROWS, COLUMNS, generator=torch.Generator().manual_seed(1))


def cut(
    volume: Tensor,
    denoiser: object,
    plane: Plane,
    own: tuple[int, int],
    *,
    lattice: WindowLattice = COLUMNS_CUT,
    lattice_rows: WindowLattice = ROWS_CUT,
    iteration: int = 3,
) -> Tensor:
    """The rows ``own`` denoised by a tile that reads just their halo."""
    halo = halo_rows(lattice_rows, 1)
    y0, y1 = max(0, own[0] - halo), min(ROWS, own[1] + halo)
    return denoise_plane(
        denoiser,  # type: ignore[arg-type]
        volume[:, y0:y1].clone(),
        0.5,
        plane=plane,
        box=Box((0, y0, -3), (DEPTH, y1, COLUMNS - 3)),
        own=own,
        rows=ROWS,
        lattice=lattice,
        lattice_rows=lattice_rows,
        batch=BATCH,
        seed=7,
        iteration=iteration,
    )


@pytest.mark.parametrize("lattice", [COLUMNS_CUT, COLUMNS_WHOLE], ids=["windows", "whole"])
@pytest.mark.parametrize("plane", ["zy", "yx"])
def test_any_cut_gives_the_same_bits(
    volume: Tensor, net: UNetDenoiser, plane: Plane, lattice: WindowLattice
) -> None:
    for iteration in (0, 3):
        whole = cut(volume, net, plane, (0, ROWS), lattice=lattice, iteration=iteration)
        for own in ((0, 9), (9, 40), (37, 38), (60, ROWS)):
            part = cut(volume, net, plane, own, lattice=lattice, iteration=iteration)
            assert torch.equal(part, whole[:, own[0] : own[1]])


@pytest.mark.parametrize("plane", ["zy", "yx"])
def test_windows_blend_to_what_goes_through(volume: Tensor, plane: Plane) -> None:
    """With a denoiser that knows no neighbours the windows must not show."""
    for own in ((0, ROWS), (20, 31)):
        out = cut(volume, Recorder(), plane, own)
        torch.testing.assert_close(out, volume[:, own[0] : own[1]] * 0.5, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("plane", "shape"), [("zy", (6, 12, 32)), ("yx", (6, 32, 24))])
def test_every_call_has_the_same_shape(
    volume: Tensor, plane: Plane, shape: tuple[int, ...]
) -> None:
    recorder = Recorder()
    for own in ((0, ROWS), (0, 5), (70, ROWS)):
        cut(volume, recorder, plane, own)
    assert recorder.shapes == {shape}


def test_few_rows_take_one_window(volume: Tensor, net: UNetDenoiser) -> None:
    single = WindowLattice(0, 76, 0, 4, single=True, stream=ROW_LATTICE_STREAM)
    whole = cut(volume, net, "zy", (0, ROWS), lattice_rows=single)
    assert torch.equal(cut(volume, net, "zy", (30, 41), lattice_rows=single), whole[:, 30:41])


def test_planes_see_their_own_two_axes(volume: Tensor) -> None:
    """zy mixes z and y, yx mixes y and x: a point spreads in its plane alone."""

    class Spread(Recorder):
        def __call__(self, x: Tensor, sigma: float, inside: Tensor) -> Tensor:
            kernel = torch.ones(1, 1, 3, 3)
            return torch.nn.functional.conv2d(x[:, None], kernel, padding=1)[:, 0]

    point = torch.zeros_like(volume)
    point[5, 30, 20] = 1
    for plane, axes in (("zy", (0, 1)), ("yx", (1, 2))):
        hit = cut(point, Spread(), plane, (0, ROWS)).nonzero()  # type: ignore[arg-type]
        spread = (hit.max(dim=0).values - hit.min(dim=0).values).tolist()
        assert [axis for axis in range(3) if spread[axis]] == list(axes)
