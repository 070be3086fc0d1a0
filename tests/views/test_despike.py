"""Hot pixels of one view are found and imputed; beads, edges and noise are left as they are."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from ddgm_dist.views.despike import MARGIN, despike, find_hot_pixels
from ddgm_dist.views.hot_threshold import estimate_threshold


def counts(mean: float, shape=(160, 200), seed=0) -> np.ndarray:
    """Counts of a beam through tissue-like structure, as a microscope stores them."""
    r = np.random.default_rng(seed)
    smooth = gaussian_filter(r.standard_normal(shape), 3)
    return r.poisson(mean * np.exp(0.3 * smooth / smooth.std())).astype(np.float32)


def plant(view, share: float, seed=1, largest=60000.0, size=3):
    """Clusters of up to 3 x 3 hot pixels, apart from each other; and where they are."""
    r = np.random.default_rng(seed)
    out, hot = view.copy(), np.zeros(view.shape, bool)
    for _ in range(round(share * view.size)):
        high, wide = r.integers(1, size + 1, 2)
        y, x = r.integers(0, view.shape[0] - high + 1), r.integers(0, view.shape[1] - wide + 1)
        if hot[max(0, y - 7) : y + high + 7, max(0, x - 7) : x + wide + 7].any():
            continue
        hot[y : y + high, x : x + wide] = True
        lowest = 2 * view.max() + 30
        out[y : y + high, x : x + wide] = r.uniform(lowest, max(largest, 2 * lowest), (high, wide))
    return out, hot


def found(view, threshold) -> np.ndarray:
    mask = np.zeros(view.shape, bool)
    mask[find_hot_pixels(view, threshold)] = True
    return mask


@pytest.mark.parametrize("mean", [0.5, 2, 20, 1000, 20000])
def test_planted_hot_pixels_are_found_and_nothing_else(mean: float) -> None:
    view = counts(mean)
    with_hot, hot = plant(view, 0.0005)
    threshold = estimate_threshold([with_hot])
    assert threshold is not None
    assert np.array_equal(found(with_hot, threshold), hot)
    imputed, count = despike(with_hot, threshold)
    assert count == hot.sum()
    assert np.array_equal(imputed[~hot], view[~hot])
    assert np.abs(imputed[hot] - mean).max() < 1.5 * mean + 3


@pytest.mark.parametrize("mean", [0.01, 0.05, 0.2, 0.5, 1, 2, 5, 20, 1000])
def test_noise_of_counts_is_not_hot(mean: float) -> None:
    view = np.random.default_rng(0).poisson(mean, (700, 1000)).astype(np.float32)
    threshold = estimate_threshold([view[100:140], view[300:340], view[500:540]])
    assert threshold is not None
    assert not found(view, threshold).any()


def test_a_small_bright_part_of_the_view_may_be_noisier_than_the_rest() -> None:
    """A hole in a thick specimen: its noise is seven times as large."""
    mean = np.full((400, 400), 20.0)
    mean[180:220, 180:220] = 1000
    view = np.random.default_rng(0).poisson(mean).astype(np.float32)
    threshold = estimate_threshold([view[:40], view[360:]])
    assert threshold is not None
    assert threshold < 2 * np.sqrt(1000)
    assert found(view, threshold).sum() <= 1


@pytest.mark.parametrize("diameter", [5, 6, 8, 12])
@pytest.mark.parametrize("mean", [1, 5, 20, 200, 2000])
def test_gold_beads_are_no_hot_pixels(diameter: int, mean: float) -> None:
    """Dark in counts; at any place between the pixels, and up to black."""
    r = np.random.default_rng(diameter)
    view_path = np.zeros((160, 240))
    y, x = np.mgrid[0:20, 0:20]
    for i in range(8):
        for j in range(12):
            dy, dx = r.uniform(9, 10, 2)
            left = (diameter / 2) ** 2 - (y - dy) ** 2 - (x - dx) ** 2
            path = np.sqrt(np.clip(left, 0, None)) / (diameter / 2)
            view_path[20 * i : 20 * i + 20, 20 * j : 20 * j + 20] = path
    view = r.poisson(mean * np.exp(-4 * view_path)).astype(np.float32)
    threshold = estimate_threshold([view[i * 40 : i * 40 + 40] for i in range(4)])
    assert threshold is not None
    assert not found(view, threshold).any()


def test_edges_of_a_specimen_are_kept() -> None:
    view = counts(1000)
    view[:, 90:] *= 0.05
    view[70:, :40] += 20000
    threshold = estimate_threshold([view])
    assert threshold is not None
    assert not found(view, threshold).any()


def test_a_share_of_hot_pixels_does_not_hide_them() -> None:
    view = counts(1000, (300, 400))
    r = np.random.default_rng(1)
    hot = r.random(view.shape) < 0.005
    view[hot] = r.uniform(10000, 60000, int(hot.sum()))
    threshold = estimate_threshold([view[i * 75 : i * 75 + 40] for i in range(4)])
    assert threshold is not None
    assert found(view, threshold)[hot].mean() > 0.99


def test_pixels_that_are_no_numbers_stay_so() -> None:
    view, hot = plant(counts(1000), 0.0005)
    view[50, 60], view[51, 61], view[52, 60] = np.nan, np.inf, -np.inf
    before = view.copy()
    imputed, _ = despike(view, 300.0)
    assert np.array_equal(np.isnan(imputed), ~np.isfinite(view))
    assert np.array_equal(view, before, equal_nan=True)
    assert imputed[hot].max() < 3000
    nothing, count = despike(np.full((9, 9), np.nan, np.float32), 1.0)
    assert np.isnan(nothing).all()
    assert count == 0


def test_a_cluster_in_a_corner_and_amid_unmeasured_pixels() -> None:
    view = counts(1000)
    view[:3, :3] = 60000
    view[100:111, 100:111] = np.nan
    view[104:107, 104:107] = 60000  # no good neighbour in reach
    imputed, count = despike(view, 300.0)
    assert imputed[:3, :3].max() < 2000
    assert count == 9  # and what stands amid nothing stands out of nothing
    assert (imputed[104:107, 104:107] == 60000).all()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_cut_into_boxes_gives_what_the_whole_view_gives(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    r = np.random.default_rng(data.draw(st.integers(0, 99)))
    view = r.poisson(20, (height, width)).astype(np.float32)
    unmeasured = data.draw(st.sampled_from([0.02, 0.6]))  # or the wider window is hardly used
    for chance, value in ((0.05, 5000.0), (unmeasured, np.nan), (0.01, -3000.0), (0.01, np.inf)):
        view[r.random(view.shape) < chance] = value
    whole, count = despike(view, 40.0)
    rows = [0, *sorted(data.draw(st.sets(st.integers(1, height), max_size=4))), height]
    columns = [0, *sorted(data.draw(st.sets(st.integers(1, width), max_size=4))), width]
    total = 0
    for y0, y1 in pairwise(rows):
        for x0, x1 in pairwise(columns):
            top, left = max(0, y0 - MARGIN), max(0, x0 - MARGIN)
            box = view[top : y1 + MARGIN, left : x1 + MARGIN]
            inside = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
            part, some = despike(box, 40.0, inside)
            assert np.array_equal(part, whole[y0:y1, x0:x1], equal_nan=True)
            total += some
    assert total == count


def test_the_margin_is_wide_enough_for_neighbours_at_the_far_end() -> None:
    """A hot pixel amid unmeasured ones takes neighbours that others, farther out, may find hot."""
    values = np.array([20, 21, 5000, np.nan], np.float32)
    replaced = 0
    for seed in range(200):
        view = np.random.default_rng(seed).choice(values, (21, 21), p=[0.4, 0.3, 0.1, 0.2])
        view[8:13, 8:13] = np.nan
        view[10, 10] = 9000
        whole, _ = despike(view, 40.0)
        replaced += whole[10, 10] < 9000
        part, _ = despike(view[:, : 11 + MARGIN], 40.0, (slice(None), slice(0, 11)))
        assert np.array_equal(part, whole[:, :11], equal_nan=True)
    assert replaced > 100


def test_a_large_view_is_searched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    view, _ = plant(counts(0.3), 0.002)
    whole = found(view, 1.5)
    monkeypatch.setattr("ddgm_dist.views.despike._PART", 1)
    assert np.array_equal(found(view, 1.5), whole)
    assert whole.mean() > 0.002  # also what nearly stands out


def test_nothing_tells_where_nothing_varies() -> None:
    assert estimate_threshold([np.ones((40, 40), np.float32)]) is None
    assert estimate_threshold([np.full((40, 40), np.nan, np.float32)]) is None
    assert estimate_threshold([]) is None
