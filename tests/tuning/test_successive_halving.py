"""Choosing among candidates: what is chance, what is better, what is cheaper."""

import math

import pytest

from ddgm_dist.tuning.successive_halving import Estimate, choose, compare, paired, rounds


def blocks(*values: float) -> list[Estimate]:
    """Scores of blocks that all tilts agree on."""
    return [Estimate((0.7, 0.3), ((v, v), (v, v))) for v in values]


def test_halving_tries_all_on_one_block_and_the_finalists_on_all() -> None:
    found = rounds(20, 4)
    assert [(list(r.blocks), r.candidates) for r in found] == [([0], 20), ([1], 10), ([2, 3], 5)]
    for candidates in (2, 5, 33):
        for count in (1, 3, 8):
            plan = rounds(candidates, count)
            assert [b for r in plan for b in r.blocks] == list(range(count))
            assert plan[-1].candidates >= min(candidates, 4)


def test_an_estimate_is_the_weighted_mean_and_knows_its_scatter() -> None:
    e = Estimate((0.75, 0.25), ((1.0, 3.0), (4.0,)))
    assert e.mean == pytest.approx(0.75 * 2 + 0.25 * 4)
    assert e.variance == pytest.approx(0.75**2 * 2 / 2)
    assert e.minus(e).mean == e.minus(e).variance == 0


def test_what_makes_a_block_hard_for_all_does_not_count() -> None:
    easy, hard = blocks(0.1, 0.9), blocks(0.2, 1.0)
    difference, deviation = paired(hard, easy)
    assert difference == pytest.approx(0.1)
    assert deviation == pytest.approx(0, abs=1e-12)


def test_the_larger_of_both_scatters_is_the_standard_error() -> None:
    scattered = [Estimate((1.0, 0.0), ((0.0, 2.0), (9.0,)))] * 2
    zero = [Estimate((1.0, 0.0), ((0.0, 0.0), (9.0,)))] * 2
    assert paired(scattered, zero) == pytest.approx((1.0, math.sqrt(2 / 4)))
    assert paired(blocks(1.0, 3.0), blocks(0.0, 0.0)) == pytest.approx((2.0, 1.0))
    assert math.isnan(paired([Estimate((1.0,), ((1.0,),))], [Estimate((1.0,), ((0.0,),))])[1])


def test_the_given_settings_stay_unless_another_is_surely_better() -> None:
    given = blocks(0.30, 0.40, 0.50)
    assert choose({0: given, 1: blocks(0.29, 0.39, 0.49)}, [50, 50]) == 1
    assert choose({0: given, 1: blocks(0.10, 0.40, 0.69)}, [50, 50]) == 0
    assert choose({0: given, 1: blocks(0.31, 0.41, 0.51)}, [50, 50]) == 0


def test_a_cheaper_candidate_that_is_surely_as_good_is_taken() -> None:
    given, best = blocks(0.5, 0.6), blocks(0.30, 0.40)
    close, unsure, far = blocks(0.301, 0.403), blocks(0.26, 0.44), blocks(0.31, 0.41)
    assert choose({0: given, 1: best, 2: close, 3: unsure, 4: far}, [50, 50, 25, 10, 5]) == 2


def test_only_those_tried_on_most_blocks_are_chosen_from() -> None:
    assert choose({0: blocks(0.3, 0.3), 1: blocks(0.01)}, [50, 5]) == 0


def test_what_diverged_is_last_and_never_chosen() -> None:
    lost = [Estimate((0.7, 0.3), ((math.inf,), (math.inf,)))] * 2
    errors = {0: lost, 1: blocks(0.3, 0.5), 2: lost}
    assert choose(errors, [50, 50, 10]) == 1
    found = compare(errors, 1)
    assert [c.index for c in found] == [1, 0, 2]
    assert found[0].difference == 0
    assert found[1].difference == math.inf
    assert math.isnan(found[1].deviation)
