"""Planes along y: nothing shows of the windows, and cuts along y change no bit."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddgm_dist.algorithm.denoiser import Denoiser
from ddgm_dist.algorithm.planes import Plane, denoise_plane, halo_rows
from ddgm_dist.core.box import Box
from ddgm_dist.core.noise import ROW_LATTICE_STREAM
from ddgm_dist.core.window import WindowLattice, make_lattice
from ddgm_dist.prior.denoisers import UNetDenoiser
from ddgm_dist.prior.precision import Precision
from ddgm_dist.prior.unet import UNet, UNetSpec

ROWS, DEPTH, DOMAIN = 70, 5, (-6, 35)
ALONG = make_lattice((0, ROWS), max_width=32, overlap=8, stride=2, stream=ROW_LATTICE_STREAM)
ALL_ROWS = make_lattice((0, ROWS), max_width=128, overlap=8, stride=2)
ACROSS = make_lattice(DOMAIN, max_width=24, overlap=8, stride=2)
ALL_COLUMNS = make_lattice(DOMAIN, max_width=128, overlap=8, stride=2)
PLANES: tuple[Plane, ...] = ("zy", "yx")
BATCH = {"zy": 8, "yx": 3}


@dataclass
class Spy:
    """Keeps its calls; averages over neighbours, unevenly, as far as ``radii`` reach."""

    radii: tuple[int, int] = (0, 0)
    stride: int = 2
    calls: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def __call__(self, x: Tensor, sigma: float, inside: Tensor) -> Tensor:
        assert sigma == 0.5
        assert x.is_contiguous()
        self.calls.append((x, inside))
        height, width = (2 * r + 1 for r in self.radii)
        kernel = torch.linspace(1, 2, height * width).reshape(1, 1, height, width)
        return F.conv2d(x[:, None], kernel / kernel.numel(), padding=self.radii)[:, 0] / 1.5


def volume() -> Tensor:
    shape = (DEPTH, ROWS, DOMAIN[1] - DOMAIN[0])
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def denoise(
    denoiser: Denoiser,
    plane: Plane,
    own: tuple[int, int] = (0, ROWS),
    held: tuple[int, int] = (0, ROWS),
    *,
    iteration: int = 0,
    along: WindowLattice = ALONG,
    across: WindowLattice = ACROSS,
) -> Tensor:
    """Rows ``own`` from a box of the rows ``held``; what lies beyond the volume is poison."""
    x = F.pad(volume(), (0, 0, 0, max(0, held[1] - ROWS)), value=float("nan"))
    return denoise_plane(
        denoiser,
        x[:, held[0] : held[1]].clone(),
        0.5,
        plane=plane,
        box=Box((0, held[0], DOMAIN[0]), (DEPTH, held[1], DOMAIN[1])),
        own=own,
        rows=ROWS,
        lattice=across,
        lattice_rows=along,
        seed=4,
        iteration=iteration,
        batch=BATCH[plane],
    )


def network(precision: Precision) -> UNetDenoiser:
    """A small network whose layers that start at zero do something."""
    torch.manual_seed(0)
    net = UNet(UNetSpec((32, 32), encoder_blocks=(1,), decoder_blocks=(1,), middle_blocks=1))
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return UNetDenoiser(net.requires_grad_(False), precision=precision)


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("along", [ALONG, ALL_ROWS], ids=["windows", "single"])
def test_cuts_along_y_change_no_bit(
    plane: Plane, precision: Precision, along: WindowLattice
) -> None:
    denoiser = network(precision)
    for iteration, cuts in [(0, (0, 20, 44, ROWS)), (5, (0, 3, 4, ROWS))]:
        whole = denoise(denoiser, plane, iteration=iteration, along=along)
        for own in pairwise(cuts):
            halo = halo_rows(along, 1)
            first, last = max(0, own[0] - halo), min(ROWS, own[1] + halo)
            for held in {(first, last), (max(0, first - 5), last + 3)}:
                part = denoise(denoiser, plane, own, held, iteration=iteration, along=along)
                assert torch.equal(part, whole[:, own[0] : own[1]])
    assert not torch.equal(whole, denoise(denoiser, plane, iteration=6)), "a network that acts"


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("along", [ALONG, ALL_ROWS], ids=["windows", "single"])
@pytest.mark.parametrize("across", [ACROSS, ALL_COLUMNS], ids=["windows", "single"])
def test_a_denoiser_that_does_nothing_does_nothing(
    plane: Plane, along: WindowLattice, across: WindowLattice
) -> None:
    for own in [(0, ROWS), (17, 18), (33, 70)]:
        for iteration in (0, 1, 7):
            same = denoise(Spy(), plane, own, iteration=iteration, along=along, across=across)
            assert torch.allclose(same, volume()[:, own[0] : own[1]] / 1.5, atol=1e-6)


@pytest.mark.parametrize(("plane", "axes"), [("zy", (0, 1)), ("yx", (1, 2))])
def test_images_lie_in_their_plane(plane: Plane, axes: tuple[int, int]) -> None:
    """Against filters over the volume that reach along one axis, and not along the others."""
    x = volume()
    for radii in [(1, 0), (0, 1)]:
        axis = axes[radii.index(1)]
        kernel = torch.linspace(1, 2, 3).reshape(
            [1, 1, *(3 if other == axis else 1 for other in range(3))]
        )
        padding = [int(other == axis) for other in range(3)]
        filtered = F.conv3d(x[None, None], kernel / 4.5, padding=padding)[0, 0]
        found = denoise(Spy(radii), plane, iteration=3)
        assert torch.allclose(found, filtered, atol=1e-6)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("iteration", [0, 1, 7])
def test_a_local_denoiser_does_not_show_the_windows(plane: Plane, iteration: int) -> None:
    # Receptive field 2 = the quarter of the overlap that carries no weight.
    windows = denoise(Spy((2, 2)), plane, iteration=iteration)
    whole = denoise(Spy((2, 2)), plane, iteration=iteration, along=ALL_ROWS, across=ALL_COLUMNS)
    assert torch.allclose(windows, whole, atol=1e-6)


@pytest.mark.parametrize(
    ("plane", "shape"), [("zy", (8, 6, ALONG.width)), ("yx", (3, ALONG.width, ACROSS.width))]
)
def test_every_call_has_the_same_shape_and_is_told_what_is_specimen(
    plane: Plane, shape: tuple[int, int, int]
) -> None:
    spy = Spy()
    for own in [(0, ROWS), (0, 5), (68, 70)]:
        denoise(spy, plane, own, (0, ROWS + 2))
    assert len(spy.calls) >= 3
    seen = 0.0
    for noisy, inside in spy.calls:
        assert noisy.shape == inside.shape == shape
        assert set(inside.unique().tolist()) <= {0.0, 1.0}
        assert (noisy[inside == 0] == 0).all()
        assert (noisy[inside == 1] != 0).all()
        assert inside.sum() > 0
        seen += float(inside.sum())
    assert seen > volume().numel(), "every voxel is seen, some twice"


def test_a_box_that_lacks_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="lack some of the window"):
        denoise(Spy(), "zy", (40, 50), (35, 60))
    with pytest.raises(ValueError, match="lack some of the window"):
        denoise(Spy(), "zy", (40, 50), (35, 60), along=ALL_ROWS)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    overlap=st.integers(0, 16),
    block=st.integers(1, 9),
    first=st.integers(0, 299),
    extent=st.integers(1, 300),
)
def test_the_halo_is_what_windows_read(overlap: int, block: int, first: int, extent: int) -> None:
    lattice = make_lattice((0, 1000), max_width=64, overlap=overlap, stride=8)
    halo, read = halo_rows(lattice, block), []
    assert halo % block == 0
    for iteration in range(60):
        starts = lattice.starts(first, first + extent, seed=0, iteration=iteration)
        read += [first - starts[0], starts[-1] + lattice.width - first - extent]
        assert min(read) >= 0
        assert max(read) <= halo
    assert max(read) > halo - block - 12, "hardly more than needed"


def test_windows_along_y_move_independently_of_those_along_x() -> None:
    columns = make_lattice((0, ROWS), max_width=32, overlap=8, stride=2)
    shifts = [
        [lattice.starts(0, ROWS, seed=0, iteration=n)[0] for n in range(100)]
        for lattice in (ALONG, columns)
    ]
    assert sum(a == b for a, b in zip(*shifts, strict=True)) < 20
