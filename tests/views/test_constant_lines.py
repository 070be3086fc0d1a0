"""Lines of one value: what numpy says of the whole view, however it is cut."""

from __future__ import annotations

import numpy as np
import pytest

from ddgm_dist.views.constant_lines import ConstantLines


@pytest.mark.parametrize("shape", [(200, 90), (1, 30), (30, 1), (9, 8)])
@pytest.mark.parametrize("step", [1, 7, 64, 500])
@pytest.mark.parametrize("mean", [0.02, 30.0])
def test_they_are_those_of_the_whole(shape: tuple[int, int], step: int, mean: float) -> None:
    view = np.random.default_rng(0).poisson(mean, shape).astype(np.float32)
    if shape[0] == 200:
        view[:, 7], view[:, 20:22], view[150] = 5, 0, 3
        view[:, 30], view[150, 30] = 3, np.nan
        view[:, 40], view[-1, 40] = 3, 4
        view[60], view[60, -1] = 3, 4
        view[:, 50], view[10] = np.inf, np.nan
        view[11:] = np.where(np.isinf(view[11:]), 3, view[11:])
    found = ConstantLines(shape)
    for first in range(0, shape[0], step):
        found.add(first, view[first : first + step])
    finite = np.isfinite(view)
    rows = (view == view[:, :1]).all(axis=1) & finite.all(axis=1)
    columns = (view == view[:1]).all(axis=0) & finite.all(axis=0)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.columns, columns)
