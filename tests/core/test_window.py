"""Denoiser windows: they sum to one, cover everything, and are global."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddgm_dist.core.window import WindowLattice, blending_profile, make_lattice
from ddgm_dist.errors import InputError

lattices = st.builds(
    lambda origin, overlap, extra: WindowLattice(origin, 2 * overlap + extra, overlap, 1, False),
    st.integers(-50, 50),
    st.integers(0, 23),
    st.integers(1, 40),
)
intervals = st.tuples(st.integers(-300, 300), st.integers(1, 400)).map(
    lambda p: (p[0], p[0] + p[1])
)


def total_weight(lattice: WindowLattice, start: int, stop: int, iteration: int) -> torch.Tensor:
    total = torch.zeros(stop - start)
    profile = lattice.profile()
    for first in lattice.starts(start, stop, seed=1, iteration=iteration):
        a, b = max(first, start), min(first + lattice.width, stop)
        assert b > a, "a window that misses the interval"
        total[a - start : b - start] += profile[a - first : b - first]
    return total


@settings(deadline=None, max_examples=60, derandomize=True)
@given(lattices, intervals, st.integers(0, 1000))
def test_weights_sum_to_one_at_every_column(
    lattice: WindowLattice, interval: tuple[int, int], iteration: int
):
    total = total_weight(lattice, *interval, iteration)
    assert torch.allclose(total, torch.ones_like(total), atol=2e-7)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(lattices, intervals, intervals, st.integers(0, 1000))
def test_a_part_sees_the_windows_of_the_whole(
    lattice: WindowLattice, a: tuple[int, int], b: tuple[int, int], iteration: int
):
    whole = (min(a[0], b[0]), max(a[1], b[1]))
    every = lattice.starts(*whole, seed=3, iteration=iteration)
    own = lattice.starts(*a, seed=3, iteration=iteration)
    guard = lattice.overlap // 4
    carries = [s for s in every if s + guard < a[1] and s + lattice.width - guard > a[0]]
    assert own == carries


def test_seams_move_from_iteration_to_iteration_and_with_the_seed():
    lattice = WindowLattice(0, 64, 16, 1, False)
    starts = [lattice.starts(0, 500, seed=0, iteration=n)[0] for n in range(200)]
    assert len({s % 48 for s in starts}) > 40, "any shift of the pitch occurs"
    assert starts != [lattice.starts(0, 500, seed=1, iteration=n)[0] for n in range(200)]


@pytest.mark.parametrize(("width", "overlap"), [(64, 16), (64, 32), (61, 7), (8, 1), (8, 0)])
def test_the_profile_is_smooth_symmetric_and_zero_near_a_windows_border(width: int, overlap: int):
    profile = blending_profile(width, overlap)
    guard = overlap // 4
    assert profile.shape == (width,)
    assert (profile[:guard] == 0).all()
    assert (profile[width - guard :] == 0).all()
    assert (profile[overlap : width - overlap] == 1).all()
    assert torch.allclose(profile, profile.flip(0), atol=1e-7)
    assert (profile[: width // 2].diff() >= 0).all()


def test_a_domain_that_fits_has_one_window_and_no_seam():
    lattice = make_lattice((-13, 100), max_width=128, overlap=32, stride=8)
    assert lattice.single
    assert lattice.width == 120
    assert lattice.starts(-13, 100, seed=0, iteration=5) == [-13]
    assert torch.equal(lattice.profile(), torch.ones(120))


def test_a_read_box_that_fits_has_one_window_on_the_stride_of_the_domain():
    lattice = make_lattice((-13, 500), max_width=128, overlap=32, stride=8, extent=113)
    assert (lattice.single, lattice.width) == (True, 120)
    for start in range(-13, 380, 7):
        (first,) = lattice.starts(start, start + 113, seed=0, iteration=0)
        assert (first + 13) % 8 == 0
        assert first <= start
        assert start + 113 <= first + lattice.width


def test_a_wider_domain_has_windows_of_whole_strides():
    lattice = make_lattice((-13, 500), max_width=130, overlap=32, stride=8)
    assert (lattice.single, lattice.width, lattice.overlap) == (False, 128, 32)
    assert len(lattice.starts(-13, 500, seed=0, iteration=0)) >= 5


def test_windows_too_narrow_for_their_overlap_are_refused():
    with pytest.raises(InputError, match="twice the overlap of 32") as caught:
        make_lattice((0, 500), max_width=63, overlap=32, stride=8)
    assert caught.value.argument == "window"


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(-50, 50), st.integers(1, 100), st.integers(0, 300), st.sampled_from([1, 4, 8]))
def test_one_window_covers_any_read_box_on_the_strides_grid(
    origin: int, extent: int, first: int, stride: int
):
    domain = (origin, origin + 400)
    lattice = make_lattice(domain, max_width=128, overlap=32, stride=stride, extent=extent)
    assert lattice.single
    assert lattice.width % stride == 0
    start, stop = origin + first, origin + first + extent
    (window,) = lattice.starts(start, stop, seed=0, iteration=0)
    assert window <= start
    assert stop <= window + lattice.width
    assert (window - origin) % stride == 0
