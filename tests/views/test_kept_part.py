"""Pixels of a recorded image that lie in what is stored of it."""

from __future__ import annotations

import numpy as np
import pytest

from ddgm_dist.views.affine import Affine
from ddgm_dist.views.kept_part import KeptPart
from ddgm_dist.views.measure import measure_view
from ddgm_dist.views.resample import resample


@pytest.mark.parametrize(
    "affine",
    [
        Affine(),
        Affine.turn_axis(90),
        Affine.turn_axis(-90),
        Affine(dx=3.0, dy=-2.0),
        Affine(a11=-1.0, dx=1.0),
    ],
)
def test_where_pixels_only_move_those_are_counted_that_are_stored(affine: Affine) -> None:
    image = np.arange(1.0, 16 * 16 + 1, dtype=np.float32).reshape(16, 16)
    y, u = range(2, 11), range(5, 16)

    def read(rows: slice, columns: slice) -> np.ndarray:
        return image[rows, columns]

    part = slice(y.start, y.stop), slice(u.start, u.stop)
    stored = resample(read, image.shape, image.shape, affine, part)
    rows, columns = (grid.ravel() for grid in np.indices(image.shape))
    kept = KeptPart(affine, image.shape, image.shape, y, u).contains(rows, columns)
    expected = np.isin(image.ravel(), stored[np.isfinite(stored)])
    np.testing.assert_array_equal(kept, expected)


def test_a_turned_part_has_about_as_many_pixels() -> None:
    kept = KeptPart(Affine.turn_axis(30), (200, 200), (200, 200), range(70, 130), range(80, 120))
    rows, columns = (grid.ravel() for grid in np.indices((200, 200)))
    inside = kept.contains(rows, columns)
    assert abs(int(inside.sum()) - 60 * 40) < 40
    # The middle of what is kept is the middle of the image.
    assert abs(rows[inside].mean() - 99.5) < 0.2
    assert abs(columns[inside].mean() - 99.5) < 0.2


def test_rows_that_binning_leaves_over_are_not_used() -> None:
    kept = KeptPart(Affine(), (3, 4), (3, 4), range(3), range(1, 4), bin=3)
    rows, columns = (grid.ravel() for grid in np.indices((11, 13)))
    inside = kept.contains(rows, columns).reshape(11, 13)
    expected = np.zeros((11, 13), dtype=bool)
    expected[:9, 3:12] = True
    np.testing.assert_array_equal(inside, expected)


def test_a_view_is_measured_with_a_dark_image_and_its_part() -> None:
    image = np.full((20, 30), 50.0, np.float32)
    image[4:6, 4:6] = 10  # at the dark level
    image[18, 3:9] = 10  # outside of what is used
    dark = np.full(image.shape, 10.0, np.float32)
    dark[0:3] = 60  # all of it is dark here
    dark[0, :10] = np.nan

    def read(rows: slice, columns: slice) -> np.ndarray:
        return image[rows, columns]

    used = KeptPart(Affine(), image.shape, image.shape, range(10), range(30)).contains
    found = measure_view(read, image.shape, despike=False, dark=dark, used=used)
    assert found.zeros == 4 + 3 * 30 - 10
    assert measure_view(read, image.shape, despike=False, dark=10.0).zeros == 10
