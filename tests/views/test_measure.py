"""Statistics of a view: what numpy says of the whole, however it is read."""

import hashlib

import numpy as np
import pytest

from ddgm_dist.errors import InputError
from ddgm_dist.views.measure import measure_view
from ddgm_dist.views.statistics import QUANTILES, THUMBNAIL, ViewStatistics


def measured(view: np.ndarray, **options) -> ViewStatistics:
    return measure_view(lambda rows, columns: view[rows, columns], view.shape, **options)


def view_of(shape, seed=0) -> np.ndarray:
    r = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    mean = 1000 + 300 * np.sin(y / 17) * np.cos(x / 23)
    view = r.poisson(mean).astype(np.float32)
    view[r.random(shape) < 0.0005] = 60000
    return view


def same(one: ViewStatistics, two: ViewStatistics, but=()) -> None:
    for name in one.__dataclass_fields__:
        if name not in but:
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)


def test_figures_are_those_of_the_pixels() -> None:
    view = view_of((300, 500))
    view[7, 8:11], view[9, 9], view[20, :5] = np.nan, np.inf, 0
    found = measured(view)
    finite = view[np.isfinite(view)].astype(np.float64)
    assert found.digest == hashlib.sha256(view.astype("<f4").tobytes()).hexdigest()
    assert (found.low, found.high) == (finite.min(), finite.max())
    assert found.mean == pytest.approx(finite.mean(), rel=1e-12)
    assert found.std == pytest.approx(finite.std(), rel=1e-12)
    assert (found.nonfinite, found.zeros) == (4, 5)
    assert found.at_high == (finite == 60000).sum() / finite.size
    assert found.hot == pytest.approx((view == 60000).sum(), abs=6)
    exact = np.quantile(finite, QUANTILES)
    assert np.abs(np.array(found.quantiles)[1:-1] - exact[1:-1]).max() < 10


@pytest.mark.parametrize("shape", [(300, 500), (513, 200), (64, 64), (1, 700), (700, 1), (3, 3)])
def test_the_thumbnail_is_the_mean_of_blocks_without_hot_pixels(shape) -> None:
    view = np.random.default_rng(0).poisson(1000, shape).astype(np.float32)
    if min(shape) > 60:
        view[32:35, 40:43] = 60000
    view[shape[0] // 2, shape[1] // 2] = np.nan
    found = measured(view)
    block = found.block
    rows, columns = (max(1, n // block) for n in shape)
    assert found.thumbnail.shape == (rows, columns)
    assert max(rows, columns) <= THUMBNAIL
    good = np.where(view == 60000, np.nan, view)
    for i, j in np.ndindex(rows, columns):
        part = good[i * block : (i + 1) * block, j * block : (j + 1) * block]
        part = part[np.isfinite(part)]
        if part.size < block**2 or (i * j) % 7 == 0:
            expected = part.astype(np.float64).mean() if part.size else np.nan
            assert found.thumbnail[i, j] == pytest.approx(expected, rel=1e-6, nan_ok=True)


def test_bands_give_what_the_whole_view_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threshold is sampled from the same strips; sums differ by rounding only."""
    view = np.random.default_rng(0).poisson(0.3, (900, 430)).astype(np.float32)
    view[-1, -1] = 60000
    # So low that what nearly stands out is counted too, at the ends of bands as elsewhere.
    monkeypatch.setattr("ddgm_dist.views.measure.estimate_threshold", lambda strips: 1.5)
    whole = measured(view)
    asked = list[int]()

    def read(rows: slice, columns: slice) -> np.ndarray:
        asked.append((rows.stop - rows.start) * (columns.stop - columns.start))
        return view[rows, columns]

    monkeypatch.setattr("ddgm_dist.views.measure._BAND", 430 * 100)
    monkeypatch.setattr("ddgm_dist.views.measure._PART", 430 * 30)
    parts = measure_view(read, view.shape)
    assert max(asked) <= 430 * (100 + 2 * 6)
    same(whole, parts, but=("mean", "std"))
    assert parts.mean == pytest.approx(whole.mean, rel=1e-12)
    assert parts.std == pytest.approx(whole.std, rel=1e-12)
    assert whole.hot > 100


def test_the_same_pixels_give_the_same_bits() -> None:
    view = view_of((200, 300))
    same(measured(view), measured(view.copy()))


def test_without_a_search_there_are_no_hot_pixels() -> None:
    found = measured(view_of((200, 300)), despike=False)
    assert (found.threshold, found.hot) == (None, 0)


def test_views_without_an_image() -> None:
    flat = measured(np.full((50, 60), 7, np.float32))
    assert (flat.low, flat.high, flat.mean, flat.std, flat.at_high) == (7, 7, 7, 0, 1)
    assert flat.threshold is None
    nothing = measured(np.full((50, 60), np.nan, np.float32))
    assert nothing.nonfinite == 3000
    assert np.isnan(
        [nothing.low, nothing.high, nothing.mean, nothing.std, *nothing.quantiles]
    ).all()
    assert np.isnan(nothing.thumbnail).all()


def test_a_view_full_of_points_has_no_hot_pixels() -> None:
    """Small bright particles of a specimen crowd the parts that the threshold is not sampled from."""
    view = np.random.default_rng(0).poisson(100, (400, 400)).astype(np.float32)
    for first in (72, 172, 272):
        view[first : first + 56 : 6, ::12] = 30000
    some = measured(view)
    assert (some.crowded, some.hot) == (False, 3 * 10 * 34)
    for first in (72, 172, 272):
        view[first : first + 56 : 6, 6::12] = 30000
    found = measured(view)
    assert (found.crowded, found.threshold, found.hot) == (True, None, 0)


def test_a_reader_that_returns_something_else_is_refused() -> None:
    with pytest.raises(InputError, match="asked for"):
        measure_view(lambda rows, columns: np.zeros((3, 3), np.float32), (4, 4))
    with pytest.raises(InputError, match="at least one"):
        measure_view(lambda rows, columns: np.zeros((0, 3), np.float32), (0, 3))
