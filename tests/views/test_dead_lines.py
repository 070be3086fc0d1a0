"""Dead lines: one value in nearly all views, which is no chance beside the neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from ddgm_dist.views.dead_lines import find_dead_lines


def none(views: int = 11, lines: int = 100) -> np.ndarray:
    return np.zeros((views, lines), dtype=bool)


def test_lines_of_one_value_are_found() -> None:
    constant = none()
    constant[:, 7] = constant[:, 20:23] = constant[:, 60] = True
    constant[3, 60] = False  # a faulty view
    assert find_dead_lines(constant) == [7, 20, 21, 22, 60]


def test_what_several_views_show_otherwise_is_none() -> None:
    constant = none()
    constant[:, 7], constant[2:4, 7] = True, False
    assert find_dead_lines(constant) == []


@pytest.mark.parametrize("part", [slice(0, 3), slice(97, 100), slice(10, 20), slice(0, 100)])
def test_empty_parts_of_images_are_none(part: slice) -> None:
    constant = none()
    constant[:, part] = True
    assert find_dead_lines(constant) == []


def test_a_dead_line_near_an_empty_part_is_found() -> None:
    constant = none()
    constant[:, :30] = constant[:, 40] = True
    assert find_dead_lines(constant) == [40]


@pytest.mark.parametrize("views", [1, 2, 3, 7, 21])
@pytest.mark.parametrize("mean", [0.01, 0.05, 0.2])
def test_few_counts_are_alike_by_chance(views: int, mean: float) -> None:
    r = np.random.default_rng(0)
    false = 0
    for _ in range(20):
        counts = r.poisson(mean, (views, 20, 600))
        false += len(find_dead_lines((counts == counts[:, :1]).all(axis=1)))
    assert false <= 1


def test_few_views_are_no_proof() -> None:
    constant = none(1)
    constant[:, 7] = True
    assert find_dead_lines(constant) == []
