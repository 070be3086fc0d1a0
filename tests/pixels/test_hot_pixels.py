"""Hot pixels: found alone and in clusters, where they are; edges, beads and noise are none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddgm_dist.pixels.hot_pixels import HotThreshold, find_hot, may_be_hot, prominence, surroundings
from ddgm_dist.samples import sample_path


def texture(shape=(3, 40, 60), seed=0) -> np.ndarray:
    """Smooth, with some noise; of about unit deviation."""
    from scipy.ndimage import gaussian_filter

    r = np.random.default_rng(seed)
    smooth = gaussian_filter(r.standard_normal(shape), (0, 2, 2), mode="wrap")
    return (smooth / smooth.std() + 0.1 * r.standard_normal(shape)).astype(np.float32)


def threshold(data: np.ndarray) -> float:
    found = HotThreshold(1)
    found.add(data)
    value = found.value()
    assert value is not None
    return value


def places(found) -> set[tuple[int, ...]]:
    return {(int(t), int(y), int(u)) for t, y, u in zip(*found, strict=True)}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("at", [(1, 20, 30), (0, 0, 0), (2, 39, 59), (1, 0, 30), (1, 20, 59)])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 1), (2, 2), (3, 3)])
def test_clusters_are_found_wherever_they_are(sign, at, size) -> None:
    data = texture()
    y, u = min(at[1], 40 - size[0]), min(at[2], 60 - size[1])
    data[at[0], y : y + size[0], u : u + size[1]] += sign * 100
    expected = {(at[0], y + i, u + j) for i in range(size[0]) for j in range(size[1])}
    assert places(find_hot(data, threshold(data))) == expected


def test_a_few_hot_pixels_do_not_hide_behind_each_other() -> None:
    """Half a percent of the pixels of every view, at any value, does not move the threshold."""
    data = texture()
    plain = threshold(data)
    r = np.random.default_rng(1)
    hot = r.random(data.shape) < 0.004
    data[hot] = 10.0 ** r.uniform(2, 6, int(hot.sum()))
    assert threshold(data) == pytest.approx(plain, rel=0.2)
    assert len(places(find_hot(data, threshold(data)))) >= 0.95 * hot.sum()


@pytest.mark.parametrize("diameter", [5, 6, 8, 12])
@pytest.mark.parametrize("offset", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("contrast", [5, 50, 500])
def test_beads_of_five_pixels_and_more_are_kept(diameter, offset, contrast) -> None:
    """Also their caps, which are a pixel high and three wide."""
    fine = 8
    y, x = np.mgrid[0 : 40 * fine, 0 : 60 * fine] / fine
    squares = (y - 20 - offset) ** 2 + (x - 30 - offset) ** 2
    path = 2 * np.sqrt(np.clip((diameter / 2) ** 2 - squares, 0, None))
    bead = path.reshape(40, fine, 60, fine).mean(axis=(1, 3))
    data = texture()
    data[1] += (contrast * bead / bead.max()).astype(np.float32)
    assert not places(find_hot(data, threshold(texture())))


def test_edges_lines_and_steps_are_kept() -> None:
    data = texture()
    limit = threshold(data)
    data[0, :, 30:] += 1000
    data[1, 17:, :] += 1000
    data[2, :, 11] += 1000  # along the tilt axis, a pixel wide
    assert not places(find_hot(data, limit))


@pytest.mark.parametrize("mean", [0.01, 0.05, 0.3, 2.0, 20.0])
def test_few_counts_are_not_hot(mean: float) -> None:
    counts = np.random.default_rng(0).poisson(mean, (6, 128, 512)).astype(np.float32)
    assert not places(find_hot(counts, threshold(counts)))


def test_white_noise_and_measured_data_are_not_hot() -> None:
    noise = np.random.default_rng(0).standard_normal((6, 128, 512)).astype(np.float32)
    needle = np.load(sample_path("needle"))["projections"].astype(np.float32)
    for data in (noise, needle):
        limit = threshold(data)
        assert not places(find_hot(data, limit))
        every = tuple(i.ravel() for i in np.indices(data.shape))
        assert prominence(data, every).max() < 0.7 * limit  # by far


def test_pixels_that_are_no_numbers_are_passed_over() -> None:
    data = texture()
    limit = threshold(data)
    data[0, 5, 6:9], data[1, 7] = np.nan, np.inf
    data[0, 5, 9] = 1000
    assert places(find_hot(data, limit)) == {(0, 5, 9)}
    assert threshold(data) == pytest.approx(limit, rel=0.2)


def test_nothing_tells_where_nothing_varies() -> None:
    found = HotThreshold(1)
    found.add(np.ones((2, 4, 30), np.float32))
    assert found.value() is None
    found = HotThreshold(1)
    found.add(np.full((2, 4, 30), np.nan, np.float32))
    assert found.value() is None


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_part_with_its_surroundings_tells_what_the_whole_tells(data: st.DataObject) -> None:
    """Whatever the size, and at the ends; and the quick choice loses nothing."""
    rows, columns = data.draw(st.integers(1, 16), "rows"), data.draw(st.integers(1, 40), "columns")
    r = np.random.default_rng(data.draw(st.integers(0, 99), "seed"))
    pixels = r.standard_normal((2, rows, columns)).astype(np.float32)
    pixels[r.random(pixels.shape) < 0.1] += 50
    pixels[r.random(pixels.shape) < 0.02] = np.nan
    whole = places(find_hot(pixels, 10.0))
    y0 = data.draw(st.integers(0, rows - 1))
    y1 = data.draw(st.integers(y0 + 1, rows))
    u0 = data.draw(st.integers(0, columns - 1))
    u1 = data.draw(st.integers(u0 + 1, columns))
    y, u = surroundings(y0, y1, rows), surroundings(u0, u1, columns)
    part = {(t, a + y.start, b + u.start) for t, a, b in places(find_hot(pixels[:, y, u], 10.0))}

    def inside(found: set[tuple[int, ...]]) -> set[tuple[int, ...]]:
        return {p for p in found if y0 <= p[1] < y1 and u0 <= p[2] < u1}

    assert inside(part) == inside(whole)
    quick = places(may_be_hot(pixels[:, y0:y1, u0:u1], 10.0))
    assert inside(whole) <= {(t, a + y0, b + u0) for t, a, b in quick}
