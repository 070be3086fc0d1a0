"""Grids: every combination once, the given settings first, mistakes named."""

from typing import Any

import pytest

from ddgm_dist.errors import InputError
from ddgm_dist.planning.config import Config, parse_config
from ddgm_dist.tuning.candidates import DEFAULT_GRID, expand_grid, order_candidates

BASE = parse_config({"N": 30, "denoiser": "some:thing"})


def names(grid: Any, base: Config = BASE) -> list[str]:
    return [c.name for c in expand_grid(grid, base).candidates]


def test_a_mapping_is_a_product_and_a_list_a_union() -> None:
    assert names({"K": [5, 100], "data_weight_cap": [1, 3]}) == [
        "as given",
        "K=5 data_weight_cap=1",
        "K=5",
        "data_weight_cap=1",
    ]
    assert names([{"K": [5]}, {"N": 20}]) == ["as given", "K=5", "N=20"]


def test_a_candidate_keeps_what_was_given() -> None:
    _, other = expand_grid({"K": [5]}, BASE).candidates
    assert (other.config.N, other.config.K, other.config.denoiser) == (30, 5, "some:thing")


def test_settings_that_cannot_differ_are_tried_once() -> None:
    paper = {"step_rule": ["paper"], "data_weight_cap": [1, 2, 10]}
    assert names(paper) == ["as given", "step_rule=paper"]
    assert len(names([DEFAULT_GRID[0], *DEFAULT_GRID])) == len(names(DEFAULT_GRID))


def test_any_number_of_the_drawn_is_the_given_one_and_some_others() -> None:
    candidates = expand_grid(DEFAULT_GRID, BASE).candidates
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
        ({"sigma_N": [5.0, 6.0]}, "grid = sigma_N=5: cannot be tried.*must decrease"),
        ({"K": list(range(200)), "N": list(range(1, 200))}, "fewer values"),
        ("K", "is not a mapping"),
        (["K"], "is not a mapping"),
    ],
)
def test_a_wrong_grid_is_named(grid: Any, named: str) -> None:
    with pytest.raises(InputError, match="(?s)" + named.replace("?", r"\?")):
        expand_grid(grid, BASE)


def test_the_default_grid_compares_starts() -> None:
    starts = [c.config for c in expand_grid(DEFAULT_GRID, BASE).candidates]
    restored = [c for c in starts if c.start == "restored"]
    assert {c.N for c in restored} == {3, 6, 12}
    assert {c.sigma_1 for c in restored} == {0.4, 0.5}
    assert {c.added_noise for c in restored} == {0.0, 0.3}
    fast = parse_config({"start": "restored", "N": 3, "sigma_1": 0.4, "sigma_N": 0.15})
    others = [c.config.start for c in expand_grid(DEFAULT_GRID, fast).candidates]
    assert "zero" in others


@pytest.mark.parametrize("sigma_1", [0.12, 0.4, 0.41, 3.0, 50.0])
@pytest.mark.parametrize("sigma_N", [0.01, 0.1, 0.3, 2.5])
def test_what_cannot_decrease_is_left_out_with_a_word(sigma_1: float, sigma_N: float) -> None:
    if sigma_N >= sigma_1:
        return
    base = parse_config({"N": 30, "sigma_1": sigma_1, "sigma_N": sigma_N})
    found = expand_grid(DEFAULT_GRID, base)
    assert found.candidates[0].config == base
    assert all(c.config.sigma_N < c.config.sigma_1 for c in found.candidates)
    assert all("must decrease" in each.why for each in found.left_out)
    clashes = sigma_1 <= 0.4 or sigma_N >= 2.0
    assert bool(found.left_out) == clashes
    assert {each.name for each in found.left_out}.isdisjoint(c.name for c in found.candidates)


def test_settings_that_are_tuned_must_be_sound_themselves() -> None:
    with pytest.raises(InputError, match=r"sigma_N = 7.*must decrease"):
        expand_grid(DEFAULT_GRID, parse_config({"sigma_N": 7.0}))


def test_what_a_check_refuses_is_left_out() -> None:
    def check(config: Config) -> None:
        if config.K == 5:
            raise InputError("K", config.K, "is not my number")

    found = expand_grid({"K": [5, 6]}, BASE, check)
    assert [c.name for c in found.candidates] == ["as given", "K=6"]
    assert [str(each) for each in found.left_out] == ["left out K=5: K = 5.0 is not my number"]
    with pytest.raises(InputError, match="is not my number"):
        expand_grid({"K": [5]}, BASE, check)
    with pytest.raises(InputError, match="is not my number"):
        expand_grid({"K": [6]}, parse_config({"K": 5}), check)
