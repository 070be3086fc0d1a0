"""Columns of a detector that do not work, in some rows of all views."""

from __future__ import annotations

import numpy as np
import pytest

from ddgm_dist.tilts.findings import find_dead_columns


def rows(count: int = 12) -> np.ndarray:
    return np.random.default_rng(0).poisson(30, size=(9, count, 40)).astype(np.float32)


def test_columns_of_one_value_are_found() -> None:
    lines = rows()
    lines[:, :, 7] = 0
    lines[:, :, 20:23] = np.arange(9.0)[:, None, None]  # one value in each view
    assert find_dead_columns(lines) == [7, 20, 21, 22]


def test_what_one_view_or_one_row_shows_otherwise_is_none() -> None:
    lines = rows()
    lines[:, :, 7] = 0
    lines[3, 4, 7] = 1
    assert find_dead_columns(lines) == []


@pytest.mark.parametrize("part", [slice(0, 3), slice(37, 40), slice(10, 20), slice(0, 40)])
def test_empty_parts_of_images_are_none(part: slice) -> None:
    lines = rows()
    lines[:, :, part] = 0
    assert find_dead_columns(lines) == []


def test_unmeasured_columns_and_few_rows_are_none() -> None:
    lines = rows()
    lines[:, :, 7] = np.nan
    assert find_dead_columns(lines) == []
    few = rows(4)
    few[:, :, 7] = 0
    assert find_dead_columns(few) == []
