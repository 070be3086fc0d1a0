"""Grids: every combination once, the given settings first, mistakes named."""

from typing import Any

import pytest

from ddgm_dist.errors import InputError
from ddgm_dist.planning.config import Config, parse_config
from ddgm_dist.tuning.candidates import DEFAULT_GRID, expand_grid, order_candidates

BASE = parse_config({"N": 30, "denoiser": "some:thing"})


def names(grid: Any, base: Config = BASE) -> list[str]:
    return [c.name for c in expand_grid(grid, base)]


def test_a_mapping_is_a_product_and_a_list_a_union() -> None:
    assert names({"K": [5, 100], "data_weight_cap": [1, 3]}) == [
        "as given",
        "K=5 data_weight_cap=1",
        "K=5",
        "data_weight_cap=1",
    ]
    assert names([{"K": [5]}, {"N": 20}]) == ["as given", "K=5", "N=20"]


def test_a_candidate_keeps_what_was_given() -> None:
    _, other = expand_grid({"K": [5]}, BASE)
    assert (other.config.N, other.config.K, other.config.denoiser) == (30, 5, "some:thing")


def test_settings_that_cannot_differ_are_tried_once() -> None:
    paper = {"step_rule": ["paper"], "data_weight_cap": [1, 2, 10]}
    assert names(paper) == ["as given", "step_rule=paper"]
    assert len(names([DEFAULT_GRID[0], *DEFAULT_GRID])) == len(names(DEFAULT_GRID))


def test_any_number_of_the_drawn_is_the_given_one_and_some_others() -> None:
    candidates = expand_grid(DEFAULT_GRID, BASE)
    drawn = order_candidates(candidates, 1)
    assert drawn == order_candidates(candidates, 1)
    assert drawn != order_candidates(candidates, 2)
    assert drawn[0] == candidates[0]
    assert sorted(c.name for c in drawn) == sorted(c.name for c in candidates)


@pytest.mark.parametrize(
    ("grid", "named"),
    [
        ({}, "nothing is left to choose"),
        ([], "nothing is left to choose"),
        ({"K": [100]}, "nothing is left to choose"),
        ({"K": []}, "has no values"),
        ({"DATA_WEIGHT_CAP": [1]}, "did you mean data_weight_cap?"),
        ({"denoiser": ["fibsem"]}, "cannot be tuned"),
        ({"K": [-1]}, "greater than or equal to 0"),
        ({"sigma_N": [5.0]}, "must decrease"),
        ({"K": list(range(200)), "N": list(range(1, 200))}, "fewer values"),
        ("K", "is not a mapping"),
        (["K"], "is not a mapping"),
    ],
)
def test_a_wrong_grid_is_named(grid: Any, named: str) -> None:
    with pytest.raises(InputError, match="(?s)" + named.replace("?", r"\?")):
        expand_grid(grid, BASE)
