"""Mean and deviation are those of all samples at once, whatever lies far from zero."""

import numpy as np
import pytest

from ddgm_dist.tile.moments import Moments


@pytest.mark.parametrize("count", [2, 3, 17])
@pytest.mark.parametrize("mean", [0.0, 1e4])
def test_mean_and_deviation(count: int, mean: float) -> None:
    samples = np.random.default_rng(0).standard_normal((count, 2, 3, 5)).astype(np.float32) + mean
    samples = samples.astype(np.float32)
    moments = Moments(samples.shape[1:])
    for sample in samples:
        moments.add(sample)
    exact = samples.astype(np.float64)
    np.testing.assert_array_equal(moments.mean(), exact.mean(0).astype(np.float32))
    np.testing.assert_allclose(moments.std(), exact.std(0, ddof=1), rtol=1e-6)
    assert moments.mean().dtype == moments.std().dtype == np.float32


def test_equal_samples_have_no_deviation_and_one_has_none_that_is_known() -> None:
    moments = Moments((4,))
    moments.add(np.full(4, 3.3, np.float32))
    with pytest.raises(ValueError, match="one sample"):
        moments.std()
    for _ in range(6):
        moments.add(np.full(4, 3.3, np.float32))
    np.testing.assert_array_equal(moments.std(), 0)


def test_what_is_no_number_stays_none() -> None:
    moments = Moments((2,))
    for value in (1.0, np.nan, 2.0):
        moments.add(np.array([value, 1.0], np.float32))
    assert np.isnan(moments.mean()).tolist() == [True, False]
    assert np.isnan(moments.std()).tolist() == [True, False]
