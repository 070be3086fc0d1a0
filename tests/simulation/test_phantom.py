"""Laws of the procedural tissue: a voxel depends on its coordinates and the seed, nothing else."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.readers.base import VolumeSource
from ddgm_dist.simulation.lattice_noise import hash_lattice, smooth_noise, uniform
from ddgm_dist.simulation.phantom import TissuePhantom

# Larger than memory, and tiles (48, 32, 64) begin inside the boxes that are read.
SHAPE = (4096, 50_000, 50_000)
OUTER = Box((1000, 20_460, 30_690), (1044, 20_500, 30_770))


@pytest.fixture(scope="module")
def outer() -> np.ndarray:
    return TissuePhantom(SHAPE, seed=3).read(OUTER)


@pytest.fixture(scope="module")
def tissue() -> np.ndarray:
    # (0, 0, 0) is a corner of every lattice: the worst place for a fault at lattice borders.
    return TissuePhantom((160, 160, 160)).read(Box((0, 0, 0), (160, 160, 160)))


@st.composite
def boxes_inside(draw: st.DrawFn, outer: Box) -> Box:
    pairs = [
        sorted(draw(st.tuples(st.integers(a, b), st.integers(a, b))))
        for a, b in zip(outer.start, outer.stop, strict=True)
    ]
    start, stop = zip(*pairs, strict=True)
    return Box(start, stop)


@given(box=boxes_inside(OUTER))
@settings(max_examples=40, deadline=None)
def test_a_box_is_that_part_of_a_larger_read_bit_for_bit(outer: np.ndarray, box: Box) -> None:
    part = TissuePhantom(SHAPE, seed=3).read(box)
    np.testing.assert_array_equal(part, outer[box.slices(OUTER.start)])


def test_the_shape_only_says_where_the_volume_ends() -> None:
    box = Box((0, 0, 0), (20, 30, 40))
    small = TissuePhantom(box.shape, seed=5).read(box)
    large = TissuePhantom((10**6, 10**6, 10**6), seed=5).read(box)
    np.testing.assert_array_equal(small, large)


def test_tiles_join_without_a_seam(tissue: np.ndarray) -> None:
    for axis, period in enumerate((48, 32, 64)):
        step = np.abs(np.diff(tissue, axis=axis)).mean(axis=tuple({0, 1, 2} - {axis}))
        at_seams = step[period - 1 :: period].mean()
        assert at_seams == pytest.approx(step.mean(), rel=0.1)


def test_seeds_make_different_tissue() -> None:
    box = Box((0, 0, 0), (48, 48, 48))
    one, other, high = (TissuePhantom(box.shape, seed=s).read(box).ravel() for s in (0, 1, 1 << 32))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.3
    assert abs(np.corrcoef(one, high)[0, 1]) < 0.3


def test_it_is_a_volume_source_of_fresh_float32() -> None:
    source = TissuePhantom((9, 8, 7))
    assert isinstance(source, VolumeSource)
    assert (source.shape, source.dtype) == ((9, 8, 7), np.float32)
    block = source.read(Box((1, 2, 3), (9, 8, 7)))
    assert (block.shape, block.dtype) == ((8, 6, 4), np.float32)
    assert block.flags.writeable
    assert block.flags.c_contiguous
    assert source.read(Box((1, 2, 3), (1, 8, 7))).shape == (0, 6, 4)


@pytest.mark.parametrize(
    "box", [Box((0, 0, -1), (4, 4, 4)), Box((0, 0, 0), (4, 9, 4)), Box((8, 0, 0), (9, 1, 1))]
)
def test_a_box_outside_is_refused(box: Box) -> None:
    with pytest.raises(IndexError, match="not within the shape"):
        TissuePhantom((8, 8, 8)).read(box)


@pytest.mark.parametrize("shape", [(0, 4, 4), (4, 4), (4, -1, 4)])
def test_a_bad_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="shape"):
        TissuePhantom(shape)


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_a_bad_seed_is_refused(seed: int) -> None:
    with pytest.raises(InputError, match="seed"):
        TissuePhantom((4, 4, 4), seed=seed)


def test_grey_levels_are_those_of_fib_sem(tissue: np.ndarray) -> None:
    assert np.isfinite(tissue).all()
    assert 120 < tissue.mean() < 142
    assert 29 < tissue.std() < 41
    low, middle, high = np.percentile(tissue, [1, 50, 99])
    assert 50 < low < 90
    assert 110 < middle < 150
    assert 180 < high < 220


def test_every_axis_looks_alike(tissue: np.ndarray) -> None:
    centred = tissue - tissue.mean()
    for lag, low, high, spread in ((1, 0.93, 0.97, 0.01), (3, 0.7, 0.85, 0.03)):
        found = [
            float(np.mean(a[lag:] * a[:-lag]) / np.mean(centred**2))
            for a in (np.moveaxis(centred, axis, 0) for axis in range(3))
        ]
        assert low < min(found)
        assert max(found) < high
        assert max(found) - min(found) < spread


def _spectrum(volume: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Radial power spectrum of slices along all three axes."""
    n = min(volume.shape)
    window = np.outer(np.hanning(n), np.hanning(n))
    f = np.fft.fftfreq(n)
    radius = np.hypot(f[:, None], f)
    power = np.zeros((n, n))
    for axis in range(3):
        for image in np.moveaxis(volume, axis, 0)[::8, :n, :n].astype(float):
            power += np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    return np.array(
        [power[(radius >= a) & (radius < b)].mean() for a, b in itertools.pairwise(edges)]
    )


def test_spectrum_is_near_that_of_measured_tissue(tissue: np.ndarray, shared_data) -> None:
    from PIL import Image

    files = sorted((shared_data / "fibsem_medulla" / "val").glob("*.png"))[:160]
    real = np.stack([np.asarray(Image.open(f))[:160, :160] for f in files])
    edges = np.array([0.02, 0.03, 0.045, 0.065, 0.09, 0.12, 0.16, 0.2, 0.25, 0.3, 0.35])
    ratio = _spectrum(tissue, edges) / _spectrum(real, edges)
    assert ratio.min() > 0.4
    assert ratio.max() < 2.5


def test_smooth_noise_is_bounded_and_global() -> None:
    box = Box((-20, -3, 5), (20, 30, 60))
    field = smooth_noise(1, 2, 7, box)
    assert np.abs(field).max() <= 1
    assert 0.1 < field.std() < 0.35
    for axis in range(3):
        # A cubic B-spline's second derivative is bounded by its coefficients' second differences.
        assert np.abs(np.diff(field, 2, axis=axis)).max() < 4 / 7**2
    part = Box((-8, 0, 13), (3, 15, 14))
    np.testing.assert_array_equal(smooth_noise(1, 2, 7, part), field[part.slices(box.start)])


def test_hash_is_uniform_and_its_draws_are_independent() -> None:
    h = hash_lattice(9, 1, (-8, -8, -8), (8, 8, 8))
    assert len(np.unique(h)) > 0.999 * h.size
    u, v = uniform(h, 0).ravel(), uniform(h, 1).ravel()
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(u, v)[0, 1]) < 0.06
    field = uniform(h, 0)
    for axis in range(3):
        a = np.moveaxis(field, axis, 0)
        assert abs(np.corrcoef(a[1:].ravel(), a[:-1].ravel())[0, 1]) < 0.06
