"""Laws of binning: means, sums, unmeasured pixels, and the map between binned images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ddgm_dist.errors import InputError
from ddgm_dist.views.affine import Affine
from ddgm_dist.views.binning import bin_view, binned_affine, binned_shape
from ddgm_dist.views.resample import resample

ALL = slice(None)


def test_blocks_have_the_mean_or_the_sum_of_their_pixels() -> None:
    image = np.arange(35.0).reshape(5, 7)
    expected = np.array([[(0 + 1 + 7 + 8), (2 + 3 + 9 + 10), (4 + 5 + 11 + 12)]])
    np.testing.assert_array_equal(bin_view(image, 2, "sum")[:1], expected)
    np.testing.assert_array_equal(bin_view(image, 2, "mean")[:1], expected / 4)
    assert bin_view(image, 2, "mean").shape == binned_shape((5, 7), 2) == (2, 3)
    np.testing.assert_array_equal(bin_view(image, 1, "sum"), image)
    counts = np.full((4, 4), 60_000, dtype=np.uint16)
    np.testing.assert_array_equal(bin_view(counts, 4, "sum"), [[960_000]])


def test_blocks_that_are_half_measured_keep_their_level() -> None:
    image = np.full((2, 8), 3.0)
    image[0, 0] = image[0, 2] = np.nan
    image[1, 3] = np.inf
    image[:, 4] = image[0, 5] = np.nan
    image[:, 6:] = np.nan
    np.testing.assert_array_equal(bin_view(image, 2, "sum"), [[12, 12, np.nan, np.nan]])
    np.testing.assert_array_equal(bin_view(image, 2, "mean"), [[3, 3, np.nan, np.nan]])


@settings(max_examples=40, deadline=None)
@given(factor=st.integers(1, 5), cut=st.integers(0, 7), seed=st.integers(0, 99))
def test_how_an_image_is_cut_changes_no_bit(factor: int, cut: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.normal(1e3, 1, size=(8 * factor + 1, 9 * factor)).astype(np.float32)
    image[rng.random(image.shape) < 0.05] = np.nan
    at = cut * factor
    whole = bin_view(image, factor, "mean")
    np.testing.assert_array_equal(bin_view(image[at:], factor, "mean"), whole[cut:])
    np.testing.assert_array_equal(bin_view(image[:, at:], factor, "mean"), whole[:, cut:])


def _resampled(
    image: NDArray[np.floating], affine: Affine, out: tuple[int, int]
) -> NDArray[np.float32]:
    def read(rows: slice, columns: slice) -> NDArray[np.float32]:
        return image[rows, columns].astype(np.float32)

    return resample(read, (image.shape[0], image.shape[1]), out, affine, (ALL, ALL))


@pytest.mark.parametrize("factor", [2, 3, 5])
@pytest.mark.parametrize("degrees", [0.0, 84.0, 14.0])
def test_binned_images_are_resampled_as_full_ones_are(factor: int, degrees: float) -> None:
    in_shape, out_shape = (304, 299), (302, 306)
    rows, columns = np.mgrid[: in_shape[0], : in_shape[1]].astype(float)
    image = np.cos(rows / 17 + columns / 31) + np.sin(columns / 23 - rows / 41 + 1)
    affine = Affine.turn_axis(degrees).then(Affine(1.01, 0, 0, 1, 4.3, -7.1))
    after = bin_view(_resampled(image, affine, out_shape), factor, "mean")
    binned = binned_affine(affine, in_shape, out_shape, factor)
    small = bin_view(image, factor, "mean")
    before = _resampled(small, binned, binned_shape(out_shape, factor))
    inner = (slice(60 // factor, -60 // factor), slice(60 // factor, -60 // factor))
    # A shift by 0.1 pixels of the full image would be an error of about 0.006.
    assert np.nanmax(np.abs(after - before)[inner]) < 0.001
    assert np.isfinite((after - before)[inner]).mean() > 0.9


def test_map_of_sizes_without_a_rest_is_only_scaled() -> None:
    affine = Affine(0.9, 0.1, -0.1, 1.1, 3.0, -5.0)
    assert binned_affine(affine, (64, 32), (32, 96), 4) == affine.binned(4)


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(InputError, match=r"bin = 0: must be a whole number"):
        bin_view(np.ones((4, 4)), 0, "mean")
    with pytest.raises(InputError, match="larger than an image of 4 x 9"):
        binned_shape((4, 9), 5)
