"""Laws of the resampling of one view: values, handedness, unmeasured pixels, and how it is cut."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ddgm_dist.errors import InputError
from ddgm_dist.views import resample as module
from ddgm_dist.views.affine import Affine
from ddgm_dist.views.resample import Read, resample

ALL = slice(None)


def reader(image: NDArray[np.floating]) -> Read:
    return lambda rows, columns: image[rows, columns].astype(np.float32)


def whole(
    image: NDArray[np.floating], affine: Affine, out: tuple[int, int] | None = None
) -> NDArray[np.float32]:
    shape = (image.shape[0], image.shape[1])
    return resample(reader(image), shape, out or shape, affine, (ALL, ALL))


class Waves:
    """A sum of plane waves below 0.3 cycles per pixel, stronger where they are longer."""

    def __init__(self, seed: int = 0, count: int = 150, highest: float = 0.3) -> None:
        rng = np.random.default_rng(seed)
        self.frequency = np.exp(rng.uniform(math.log(0.01), math.log(highest), count))
        direction = rng.uniform(0, 2 * math.pi, count)
        self.kx, self.ky = self.frequency * np.cos(direction), self.frequency * np.sin(direction)
        phase = np.exp(2j * math.pi * rng.uniform(size=count))
        self.amplitude = phase * (0.05 / self.frequency) ** 0.5

    def seen(self, shape: tuple[int, int], affine: Affine) -> NDArray[np.float64]:
        """The image whose resampling by the map is the sum on the grid, about the image's centre."""
        y = np.arange(shape[0]) - (shape[0] - 1) / 2
        x = np.arange(shape[1]) - (shape[1] - 1) / 2
        along_x = self.kx * affine.a11 + self.ky * affine.a21
        along_y = self.kx * affine.a12 + self.ky * affine.a22
        start = self.amplitude * np.exp(2j * math.pi * (self.kx * affine.dx + self.ky * affine.dy))
        rows = np.exp(2j * math.pi * y[:, None] * along_y) * start
        return np.asarray((rows @ np.exp(2j * math.pi * along_x[:, None] * x)).real)


def error(found: NDArray[np.floating], true: NDArray[np.floating], edge: int = 12) -> float:
    """Root mean square error over the standard deviation, where measured and away from the edge."""
    far = np.zeros(found.shape, dtype=bool)
    measured = np.isfinite(found)
    inner = measured.copy()
    for axis in (0, 1):
        for step in (-edge, edge):
            inner &= np.roll(measured, step, axis)
    far[edge:-edge, edge:-edge] = inner[edge:-edge, edge:-edge]
    assert far.mean() > 0.3
    return float(np.sqrt(np.mean((found - true)[far] ** 2)) / true.std())


@pytest.mark.parametrize("degrees", [84.0, -96.0, 4.0, 37.0, 90.0, 180.0])
@pytest.mark.parametrize("stretch", [1.0, 1.01, 0.99])
def test_band_limited_images_come_back(degrees: float, stretch: float) -> None:
    turn = Affine.turn_axis(degrees)
    affine = Affine(stretch, 0, 0, 1 / stretch, -7.3, 5.61).then(turn)
    waves = Waves()
    seen, true = waves.seen((640, 580), affine), waves.seen((600, 620), Affine())
    assert error(whole(seen, affine, (600, 620)), true) < 0.001


def test_turning_there_and_back_changes_nothing() -> None:
    affine = Affine.turn_axis(23.0).then(Affine(1.02, 0.01, 0, 0.99, 3.4, -1.7))
    true = Waves(1).seen((300, 320), Affine())
    there = whole(true, affine, (460, 460))
    back = whole(there, affine.inverse(), (300, 320))
    assert error(back, true) < 0.002
    assert error(there[:300, :320], true) > 0.5


def test_whole_pixels_move_as_they_are() -> None:
    image = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    image[1, 2], image[3, 3] = np.nan, np.inf
    expected = np.where(np.isfinite(image), image, np.nan)
    np.testing.assert_array_equal(whole(image, Affine()), expected)
    # x' = -y and y' = x: the first column becomes the first row, from its end to its start.
    quarter = whole(image, Affine(0, -1, 1, 0), (8, 5))
    np.testing.assert_array_equal(quarter, expected.T[:, ::-1])
    np.testing.assert_array_equal(whole(image, Affine(0, 1, -1, 0), (8, 5)), expected.T[::-1])
    np.testing.assert_array_equal(whole(image, Affine(-1, 0, 0, -1)), expected[::-1, ::-1])
    np.testing.assert_array_equal(whole(image, Affine(1, 0, 0, -1)), expected[::-1])
    np.testing.assert_array_equal(whole(image, Affine(0, 1, 1, 0), (8, 5)), expected.T)
    shifted = whole(image, Affine(dx=2, dy=-1))
    np.testing.assert_array_equal(shifted[:4, 2:], expected[1:, :6])
    assert np.isnan(shifted[4]).all()
    assert np.isnan(shifted[:, :2]).all()
    # A file's rounding does not turn a shift by whole pixels into an interpolation.
    rounded = whole(image, Affine(1.0000004, 0, 0, 0.9999997, 2.0004, -1))
    np.testing.assert_array_equal(rounded, shifted)
    # Centres of an even and an odd size lie half a pixel apart: what is cut off is on both sides.
    assert not np.array_equal(whole(image, Affine(), (5, 7)), expected[:, :7], equal_nan=True)
    np.testing.assert_array_equal(whole(image, Affine(dx=0.5), (5, 7))[:, 1:], expected[:, 1:7])
    np.testing.assert_array_equal(whole(image, Affine(dx=0.5), (5, 7)), expected[:, :7])
    assert np.isnan(whole(image, Affine(dx=200))).all()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whole_pixels_move_where_the_formula_says(data: st.DataObject) -> None:
    size = st.integers(1, 9)
    ny, nx, my, mx = (data.draw(size) for _ in range(4))
    a, b, c, d = data.draw(
        st.sampled_from(
            [
                (1, 0, 0, 1),
                (0, -1, 1, 0),
                (-1, 0, 0, 1),
                (0, 1, 1, 0),
                (0, 1, -1, 0),
                (-1, 0, 0, -1),
            ]
        )
    )
    # The shift that makes up for half pixels between the centres, and a whole number of them.
    dx = (a * (nx - 1) + b * (ny - 1)) / 2 - (mx - 1) / 2 + data.draw(st.integers(-4, 4))
    dy = (c * (nx - 1) + d * (ny - 1)) / 2 - (my - 1) / 2 + data.draw(st.integers(-4, 4))
    image = np.arange(ny * nx, dtype=float).reshape(ny, nx)
    expected = np.full((my, mx), np.nan)
    for y in range(ny):
        for x in range(nx):
            u, v = x - (nx - 1) / 2, y - (ny - 1) / 2
            to_x, to_y = a * u + b * v + dx + (mx - 1) / 2, c * u + d * v + dy + (my - 1) / 2
            assert to_x == round(to_x)
            if 0 <= to_x < mx and 0 <= to_y < my:
                expected[int(to_y), int(to_x)] = image[y, x]
    r0, c0 = data.draw(st.integers(0, my)), data.draw(st.integers(0, mx))
    r1, c1 = data.draw(st.integers(r0, my)), data.draw(st.integers(c0, mx))
    part = slice(r0, r1), slice(c0, c1)
    found = resample(reader(image), (ny, nx), (my, mx), Affine(a, b, c, d, dx, dy), part)
    np.testing.assert_array_equal(found, expected[part].astype(np.float32))


def blob(shape: tuple[int, int], x: float, y: float, width: float = 2.0) -> NDArray[np.float64]:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.asarray(np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * width**2)))


def centre(image: NDArray[np.float32]) -> tuple[float, float]:
    """Centre of mass, (x, y)."""
    known = np.nan_to_num(image)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    total = known.sum()
    return float((known * columns).sum() / total), float((known * rows).sum() / total)


def test_handedness_is_that_of_the_file() -> None:
    # The centre is (40, 30). A blob 20 pixels right of it, turned by 30 degrees from x to y, is at
    # 20 (cos 30, sin 30) = (17.32, 10), then shifted by (-3, 2.5).
    image = blob((61, 81), 60, 30)
    c, s = math.cos(math.radians(30)), math.sin(math.radians(30))
    x, y = centre(whole(image, Affine(c, -s, s, c, -3, 2.5)))
    assert abs(x - (40 + 17.3205 - 3)) < 1e-3
    assert abs(y - (30 + 10 + 2.5)) < 1e-3
    # A mirror image about the row axis, stretched: (10, 5) goes to (-11, 5).
    x, y = centre(whole(blob((61, 81), 50, 35), Affine(-1.1, 0, 0, 1)))
    assert abs(x - (40 - 11)) < 1e-3
    assert abs(y - 35) < 1e-3


@pytest.mark.parametrize("degrees", [84.0, -96.0, 4.0, -86.2])
def test_the_tilt_axis_becomes_vertical(degrees: float) -> None:
    axis = -math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    rows, columns = np.mgrid[:121, :121] - 60.0
    along = columns * axis[0] + rows * axis[1]
    across = columns * axis[1] - rows * axis[0]
    # A bar along the axis with a blob at its end, to tell the ends from one another.
    image = np.exp(-(across**2) / 8 - along**2 / 800) + 2 * np.exp(
        -(across**2) / 8 - (along - 35) ** 2 / 8
    )
    turned = np.nan_to_num(whole(image, Affine.turn_axis(degrees)))
    profile = turned.sum(axis=0) / turned.sum()
    x = np.arange(121) - 60
    assert abs((profile * x).sum()) < 1e-3
    assert abs((profile * x**2).sum() - 4) < 0.01
    assert turned.sum(axis=1).argmax() == 60 + 35


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_cut_gives_the_bits_of_the_whole(data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TILE", 32)
        rng = np.random.default_rng(3)
        image = rng.normal(100, 10, size=(120, 90)).astype(np.float32)
        image[rng.random(image.shape) < 0.003] = np.nan
        affine = Affine.turn_axis(data.draw(st.sampled_from([7.0, 50.0, 88.0, 0.0])))
        affine = affine.then(Affine(1.01, 0, 0, 1, 0.3, -2.2))
        shape = (100, 130)
        r0, c0 = data.draw(st.integers(0, 99)), data.draw(st.integers(0, 129))
        r1, c1 = data.draw(st.integers(r0, 100)), data.draw(st.integers(c0, 130))
        part = slice(r0, r1), slice(c0, c1)
        found = resample(reader(image), (120, 90), shape, affine, part)
        np.testing.assert_array_equal(found, whole(image, affine, shape)[part])


def test_tiles_meet_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(5).normal(100, 10, size=(150, 140))
    affine = Affine.turn_axis(31.0).then(Affine(dx=0.4, dy=1.3))
    one = whole(image, affine)
    monkeypatch.setattr(module, "TILE", 32)
    many = whole(image, affine)
    np.testing.assert_array_equal(np.isnan(one), np.isnan(many))
    assert np.nanmax(np.abs(one - many)) < 1e-4


def test_only_boxes_are_read() -> None:
    areas = list[int]()

    def read(rows: slice, columns: slice) -> NDArray[np.float32]:
        areas.append((rows.stop - rows.start) * (columns.stop - columns.start))
        return np.ones((rows.stop - rows.start, columns.stop - columns.start), dtype=np.float32)

    part = slice(10_000, 10_500), slice(9_990, 10_600)
    found = resample(read, (20_000, 20_000), (20_000, 20_000), Affine.turn_axis(45.0), part)
    assert found.shape == (500, 610)
    np.testing.assert_allclose(found, 1, rtol=1e-6)
    assert max(areas) < (module.TILE * 1.5 + 60) ** 2


def test_what_is_outside_is_unmeasured() -> None:
    found = whole(np.ones((40, 50)), Affine(dx=3.4, dy=-2.3))
    measured = np.isfinite(found)
    assert not measured[:, :4].any()
    assert not measured[37:].any()
    assert measured[:37, 4:].all()
    assert np.isnan(whole(np.ones((40, 50)), Affine(dx=60.5))).all()
    np.testing.assert_array_equal(np.nan_to_num(found, nan=1), 1)


def test_pixels_beside_unmeasured_ones_are_unmeasured_and_no_others() -> None:
    image = Waves(2, highest=0.1).seen((80, 90), Affine())
    holes = image.copy()
    holes[20, 30] = np.nan
    holes[50:, 60:] = np.nan
    affine = Affine(dx=0.5, dy=0.25)
    true, found = whole(image, affine), whole(holes, affine)
    lost = np.isnan(found) & np.isfinite(true)
    expected = np.zeros_like(lost)
    expected[20:22, 30:32] = True
    expected[50:, 60:] = True
    np.testing.assert_array_equal(lost, expected & np.isfinite(true))
    # What remains is no smear of the holes: it is near what complete images give.
    kept = np.isfinite(found)
    assert np.abs(found - true)[kept].max() < 0.12 * image.std()
    # A pixel that is all but where it was needs no neighbour.
    near = whole(holes, Affine(dx=0.004, dy=-0.002))
    assert np.isnan(near[20, 30])
    assert np.isfinite(near[20, [29, 31]]).all()


def test_values_of_unmeasured_pixels_do_not_matter() -> None:
    image = np.random.default_rng(1).normal(size=(60, 60))
    affine = Affine.turn_axis(10.0)
    image[30, 30] = np.nan
    as_nan = whole(image, affine)
    image[30, 30] = np.inf
    np.testing.assert_array_equal(whole(image, affine), as_nan)
    assert np.isnan(whole(np.full((60, 60), np.nan), affine)).all()


def test_errors_name_what_is_wrong() -> None:
    image = np.ones((20, 20))
    with pytest.raises(InputError, match=r"smaller than 0\.75.*--bin"):
        whole(image, Affine(0.5, 0, 0, 1))
    with pytest.raises(InputError, match="within 0 and 20"):
        resample(reader(image), (20, 20), (20, 20), Affine(), (slice(0, 21), ALL))
    with pytest.raises(InputError, match="another shape"):
        resample(reader(image), (30, 30), (30, 30), Affine(), (ALL, ALL))
