"""Rows of the tilt series: shifted, masked, normalised; the same in any block."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddgm_dist.core.geometry import Boundary, Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.operators.slab.operator import SlabOperator
from ddgm_dist.operators.slab.stretch import DetectorPart
from ddgm_dist.pixels.screen import Screen
from ddgm_dist.tilts.rows import BRIDGE, read_rows, read_screened, repair
from ddgm_dist.tilts.series import TiltSeries, TiltSeriesMeta, write_tilt_series

ROWS, FIELD = 20, 12
ANGLES = (-30.0, 0.0, 45.0)
UNIT = Intensity(0.0, 1.0, 0.0)


def store(tmp_path: Path, data: np.ndarray) -> TiltSeries:
    return write_tilt_series(
        tmp_path / "t.zarr", data.astype(np.float32), TiltSeriesMeta(ANGLES), overwrite=True
    )


def geometry(*dy: float) -> Geometry:
    shifts = tuple((d, 0.0) for d in dy)
    return Geometry(ANGLES, thickness=4, rows=ROWS, field=FIELD, shifts_px=shifts)


def noise() -> np.ndarray:
    shape = (len(ANGLES), ROWS, FIELD)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_unshifted_rows_are_the_rows(tmp_path: Path) -> None:
    data = noise()
    read, valid = read_rows(store(tmp_path, data), geometry(), UNIT, 3, 7)
    np.testing.assert_array_equal(read, data[:, 3:7])
    assert valid is None


def test_whole_shifts_move_rows(tmp_path: Path) -> None:
    """Row y of the volume is seen at row y + dy of the detector."""
    data = noise()
    read, valid = read_rows(store(tmp_path, data), geometry(2, -3, 0), UNIT, 0, ROWS)
    assert valid is not None
    np.testing.assert_array_equal(read[0, :-2], data[0, 2:])
    np.testing.assert_array_equal(read[1, 3:], data[1, :-3])
    np.testing.assert_array_equal(read[2], data[2])
    expected = np.ones_like(data)
    expected[0, -2:] = 0
    expected[1, :3] = 0
    np.testing.assert_array_equal(valid, expected)
    assert bool((read[valid == 0] == 0).all())


def test_fractional_shifts_interpolate(tmp_path: Path) -> None:
    dy = (0.5, -1.25, 0.0)
    position = np.arange(ROWS) + np.array(dy)[:, None]

    def seen(y: np.ndarray) -> np.ndarray:
        return np.sin(0.5 * y)[:, :, None] * np.ones(FIELD)

    data = seen(np.broadcast_to(np.arange(ROWS), (3, ROWS)))
    read, valid = read_rows(store(tmp_path, data), geometry(*dy), UNIT, 0, ROWS)
    assert valid is not None
    inside = (position >= 0) & (position <= ROWS - 1)
    np.testing.assert_array_equal(valid, np.repeat(inside[:, :, None], FIELD, axis=2))
    far = (position >= 4) & (position <= ROWS - 5)  # where the kernel has all its taps
    np.testing.assert_allclose(read[far], seen(position)[far], atol=0.01)
    near = inside & ~far
    np.testing.assert_allclose(read[near], seen(position)[near], atol=0.2)


def test_rows_beyond_the_end_are_empty(tmp_path: Path) -> None:
    """The last block is filled up, so that all blocks have one shape."""
    data = noise()
    for dy in ((), (0, 0, 0), (1, 0, 0), (0.5, 0, 0)):
        read, valid = read_rows(store(tmp_path, data), geometry(*dy), UNIT, ROWS - 2, ROWS + 2)
        assert read.shape == (3, 4, FIELD)
        assert valid is not None
        assert bool((valid[:, 2:] == 0).all())
        assert bool((read[:, 2:] == 0).all())
        np.testing.assert_array_equal(read[1:, :2], data[1:, -2:])


@pytest.mark.parametrize("dy", [(), (1, 0, -2), (0.5, 0, -0.25)])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_pixels_are_masked_and_do_not_spread(
    tmp_path: Path, dy: tuple[float, ...], bad: float
) -> None:
    data = np.full((3, ROWS, FIELD), 7.0)
    data[0, 10, 5] = data[2, 9, :] = bad
    read, valid = read_rows(store(tmp_path, data), geometry(*dy), UNIT, 0, ROWS)
    assert valid is not None
    assert bool(torch.isfinite(read).all())
    shift = dy or (0, 0, 0)
    y, first = np.arange(ROWS), np.asarray(valid)
    touched = np.abs(y + shift[0] - 10) < 1
    assert (first[0, touched, 5] == 0).all()
    inside = (y + shift[0] >= 0) & (y + shift[0] <= ROWS - 1)
    assert (first[0, inside & ~touched] == 1).all()
    assert (first[0, touched][:, np.arange(FIELD) != 5] == 1).all()
    assert (first[2, np.abs(y + shift[2] - 9) < 1] == 0).all()
    if not dy:  # a constant line is bridged by that constant
        np.testing.assert_array_equal(read[0], 7)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    dy=st.lists(
        st.one_of(st.integers(-6, 6), st.integers(-48, 48).map(lambda k: k / 8)),
        min_size=3,
        max_size=3,
    ),
    size=st.integers(1, 7),
    bad=st.booleans(),
    hot=st.lists(st.tuples(st.integers(0, 2), st.integers(0, ROWS - 1), st.integers(0, FIELD - 1))),
    patch=st.booleans(),
)
def test_blocks_read_what_the_whole_reads(
    tmp_path: Path, dy: list[float], size: int, bad: bool, hot: list[Any], patch: bool
) -> None:
    data = noise()
    for place in hot:
        data[place] = 100.0
    data[2, 5:14, 7] = 100.0  # a line along y, which is hot in none of its rows
    screen = Screen(20.0, ((1, 2, 2, 9, 0, 4),) if patch else ())
    if bad:
        data[1, 3:5, 2] = np.nan
    tilts, g = store(tmp_path, data), geometry(*dy)
    intensity = Intensity(0.25, 2.0, 0.1)
    stop = -(-ROWS // size) * size
    whole = read_rows(tilts, g, intensity, 0, stop, screen=screen)
    trusted = torch.ones(3, ROWS, FIELD) if whole[1] is None else whole[1]
    for start in range(0, stop, size):
        read, valid = read_rows(tilts, g, intensity, start, start + size, screen=screen)
        np.testing.assert_array_equal(read, whole[0][:, start : start + size])
        ok = torch.ones_like(read) if valid is None else valid
        np.testing.assert_array_equal(ok, trusted[:, start : start + size])


def test_rows_are_normalised(tmp_path: Path) -> None:
    """The projections of ``mean + std f`` come out as those of f, along slanted rays too."""
    intensity = Intensity(mean=50.0, std=8.0, sigma_y=0.0)
    path = 4 / np.cos(np.deg2rad(ANGLES))
    data = noise()
    seen = 50.0 * path[:, None, None] + 8.0 * data
    read, _ = read_rows(store(tmp_path, seen), geometry(), intensity, 0, ROWS)
    np.testing.assert_allclose(read, data, atol=1e-5)


@pytest.mark.parametrize(
    ("line", "mended"),
    [
        ([0, np.nan, 2, 3], [0, 1, 2, 3]),
        ([np.nan, 5, np.inf, 7], [5, 5, 6, 7]),
        ([1, 2, -np.inf, np.nan], [1, 2, 2, 2]),
        ([np.nan] * 4, [0] * 4),
    ],
)
def test_bad_pixels_are_bridged_along_the_row(line: list[Any], mended: list[Any]) -> None:
    raw = np.array([[line, [9, 9, 9, 9]]], np.float32)
    before = raw.copy()
    np.testing.assert_array_equal(repair(raw, np.isfinite(raw)), [[mended, [9] * 4]])
    np.testing.assert_array_equal(raw, before)


@pytest.mark.parametrize("boundary", ["extended", "vacuum"])
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_reading_only_what_is_needed_changes_no_bit(
    tmp_path: Path, boundary: Boundary, data: st.DataObject
) -> None:
    """Over tilts, shifts along both axes, edges of field and detector, and bad pixels."""
    angles, field, rows = (-70.0, -35.0, 0.0, 12.5, 60.0), 900, 6
    shift = st.one_of(st.just(0.0), st.integers(-3, 3).map(float), st.floats(-40, 40))
    moves = data.draw(st.lists(st.tuples(shift, shift), min_size=5, max_size=5), "shifts")
    g = Geometry(angles, 10, rows, field, tuple(moves), boundary)
    pixels = np.random.default_rng(0).standard_normal((5, rows, field)).astype(np.float32)
    run = st.tuples(
        st.integers(0, 4), st.integers(0, rows - 1), st.integers(0, field - 1), st.integers(1, 300)
    )
    for tilt, row, first, length in data.draw(st.lists(run, max_size=6), "bad runs"):
        pixels[tilt, row, first : first + length] = np.nan
    spot = st.tuples(
        st.integers(0, 4),
        st.integers(0, rows - 1),
        st.integers(0, field - 1),
        st.integers(1, 3),
        st.integers(1, 3),
    )
    for tilt, row, first, height, length in data.draw(st.lists(spot, max_size=6), "hot"):
        pixels[tilt, row : row + height, first : first + length] += 100
    edge = data.draw(st.integers(0, 200), "filled columns")
    patches = ((1, 3, 0, rows, 0, edge), (4, 5, 2, 3, 0, field)) if edge else ()
    screen = Screen(data.draw(st.sampled_from([None, 20.0]), "threshold"), patches)
    path = tmp_path / "t.zarr"
    tilts = write_tilt_series(path, pixels, TiltSeriesMeta(angles), overwrite=True)
    intensity = Intensity(0.25, 2.0, 0.1)
    low, high = g.domain
    start = data.draw(st.integers(low, high - 40), "first column")
    stop = data.draw(st.integers(start + 1, min(high, start + 200)), "last column")
    operator = SlabOperator(g, (start, stop))
    part = operator.detector_part
    assert part.width <= 200 + 2 * operator.margin + 64 + operator.length - (stop - start)
    whole = operator.prepare(*read_rows(tilts, g, intensity, 1, 7, screen=screen))
    less = operator.prepare(*read_rows(tilts, g, intensity, 1, 7, part, screen=screen), part)
    assert torch.equal(less.stretched, whole.stretched)
    assert torch.equal(
        less.measured.expand(less.stretched.shape), whole.measured.expand(whole.stretched.shape)
    )


def test_a_small_tile_of_a_wide_field_reads_little(tmp_path: Path) -> None:
    """Also where its tilts lie far apart on the detector."""
    g = Geometry((-60.0, 0.0, 60.0), thickness=8, rows=2, field=100_000)
    pixels = np.zeros((3, 2, 100_000), np.float32)
    tilts = write_tilt_series(tmp_path / "t.zarr", pixels, TiltSeriesMeta(g.angles_deg))
    operator = SlabOperator(g, (1000, 1200))
    part = operator.detector_part
    assert part.width < 2 * operator.length
    assert part.first[0] == part.first[2] > 20_000 > part.first[1]
    read, valid = read_rows(tilts, g, UNIT, 0, 2, part)
    assert (read.shape, valid) == ((3, 2, part.width), None)


def test_what_mends_a_pixel_is_near() -> None:
    line = np.random.default_rng(0).standard_normal(600).astype(np.float32)
    line[50:90] = line[200:400] = line[:10] = np.nan
    raw = line[None, None]
    whole = repair(raw, np.isfinite(raw), np.array([7.0], np.float32))
    for start in range(0, 600, 29):
        wide = slice(max(0, start - BRIDGE), start + 50 + BRIDGE)
        part = repair(raw[..., wide], np.isfinite(raw[..., wide]), np.array([7.0], np.float32))
        inner = start - wide.start
        np.testing.assert_array_equal(part[..., inner : inner + 50], whole[..., start : start + 50])
    assert (whole[0, 0, 232:368] == 7).all()
    assert (whole[0, 0, 200:232] == line[199]).all()
    np.testing.assert_allclose(
        whole[0, 0, 50:90], np.interp(np.arange(50, 90), [49, 90], line[[49, 90]]), rtol=1e-6
    )


def test_screened_pixels_are_not_trusted_and_do_not_spread(tmp_path: Path) -> None:
    """Also in a store of integers, which cannot hold NaN."""
    data = np.full((3, ROWS, FIELD), 7, np.int16)
    data[0, 10, 5] = 30000
    tilts = write_tilt_series(tmp_path / "t.zarr", data, TiltSeriesMeta(ANGLES))
    screen = Screen(100.0, ((1, 2, 0, ROWS, 0, 3), (2, 3, 0, ROWS, 0, FIELD)))
    read, valid = read_rows(tilts, geometry(), UNIT, 0, ROWS, screen=screen)
    assert valid is not None
    expected = np.ones((3, ROWS, FIELD))
    expected[0, 10, 5] = expected[1, :, :3] = expected[2] = 0
    np.testing.assert_array_equal(valid, expected)
    assert bool((read[:2] == 7).all())
    plain, trusted = read_rows(tilts, geometry(), UNIT, 0, ROWS)
    assert trusted is None
    assert float(plain.max()) == 30000


@pytest.mark.parametrize("spared", [(), ((2, 3), (18, 20))])
@pytest.mark.parametrize("width", [1, 5, 12])
@pytest.mark.parametrize("height", [1, 3, 8])
def test_a_part_is_screened_as_the_whole_is(
    tmp_path: Path, width: int, height: int, spared: tuple[tuple[int, int], ...]
) -> None:
    """What looks hot where it is cut is not: lines along either axis, and beads."""
    data = noise()
    data[0, 4, 2:10] = data[1, 3:15, 6] = data[2, 8:13, 3:9] = 100.0
    data[1, 2, 1:4] = data[2, 17:20, 10] = -100.0
    tilts = store(tmp_path, data)
    screen = Screen(20.0, spared=spared)
    _, whole = read_screened(tilts, slice(0, ROWS), DetectorPart((0, 0, 0), FIELD), screen)
    assert (~whole).sum() == (1 if spared else 6)
    for row in range(0, ROWS - height + 1):
        for column in range(0, FIELD - width + 1):
            rows, first = slice(row, row + height), (column, 0, FIELD - width)
            raw, good = read_screened(tilts, rows, DetectorPart(first, width), screen)
            for t, u in enumerate(first):
                np.testing.assert_array_equal(good[t], whole[t, rows, u : u + width])
                np.testing.assert_array_equal(raw[t], data[t, rows, u : u + width])
