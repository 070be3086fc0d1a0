"""The paper's schedules, the two step rules, and refusals."""

import math
from itertools import pairwise

import pytest

from ddgm_dist.algorithm.schedule import (
    Schedule,
    ScheduleShape,
    StepRule,
    denoising_steps,
    make_schedule,
    noise_levels,
)
from ddgm_dist.errors import InputError


def test_noise_levels_decay_exponentially_between_their_ends():
    sigma = noise_levels("exponential", 3.0, 0.03, 50)
    assert len(sigma) == 50
    assert sigma[0] == 3.0
    assert sigma[-1] == pytest.approx(0.03)
    ratios = [b / a for a, b in pairwise(sigma)]
    assert ratios == pytest.approx([(0.03 / 3.0) ** (1 / 49)] * 49)
    assert noise_levels("exponential", 3.0, 0.03, 1) == (3.0,)


SHAPES: tuple[ScheduleShape, ...] = ("exponential", "linear", "cosine", "karras")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("N", [2, 3, 50])
def test_every_schedule_falls_from_its_first_level_to_its_last(shape: ScheduleShape, N: int):
    sigma = noise_levels(shape, 5.0, 0.2, N)
    assert (sigma[0], sigma[-1], len(sigma)) == (5.0, 0.2, N)
    assert all(b < a for a, b in pairwise(sigma))
    assert noise_levels(shape, 5.0, 0.2, 1) == (5.0,)


def test_schedules_are_even_in_what_they_are_named_for():
    t = [n / 10 for n in range(11)]
    even = {
        "linear": lambda s: s,
        "cosine": math.atan,
        "karras": lambda s: s ** (1 / 7),
        "exponential": math.log,
    }
    for shape, scale in even.items():
        levels = [scale(s) for s in noise_levels(shape, 5.0, 0.2, 11)]
        expected = [levels[0] + x * (levels[-1] - levels[0]) for x in t]
        assert levels == pytest.approx(expected), shape


def test_an_exponential_schedule_spends_least_at_high_noise_and_a_linear_one_most():
    middle = [noise_levels(shape, 5.0, 0.2, 11)[5] for shape in ("exponential", "karras", "linear")]
    assert middle == sorted(middle)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("first", "last"), [(1.0, 1.0), (0.2, 5.0)])
def test_levels_that_do_not_decrease_are_refused(shape: ScheduleShape, first: float, last: float):
    with pytest.raises(InputError) as caught:
        noise_levels(shape, first, last, 5)
    assert caught.value.argument == "sigma_N"
    assert "sigma_1" in str(caught.value)
    with pytest.raises(InputError) as caught:
        make_schedule(N=3, K=1, sigma=(3.0, first, last), rule="paper", step_size=1.0)
    assert caught.value.argument == "sigma"


@pytest.mark.parametrize("shape", SHAPES)
def test_denoising_steps_may_stay_but_not_increase(shape: ScheduleShape):
    assert denoising_steps(shape, 5.0, 0.2, 7) == noise_levels(shape, 5.0, 0.2, 7)
    assert denoising_steps(shape, 0.7, 0.7, 5) == pytest.approx((0.7,) * 5)
    with pytest.raises(InputError) as caught:
        denoising_steps(shape, 0.2, 5.0, 5)
    assert caught.value.argument == "s_N"
    assert "s_1" in str(caught.value)
    with pytest.raises(InputError) as caught:
        make_schedule(
            N=2, K=1, sigma=(2.0, 1.0), denoising_step=(0.2, 0.5), rule="paper", step_size=1.0
        )
    assert caught.value.argument == "denoising_step"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sigma", (1.0, -1.0)),
        ("sigma", (float("inf"), 1.0)),
        ("step_size", 0.0),
        ("step_size", float("nan")),
        ("data_weight_cap", -1.0),
        ("data_weight_cap", 0.0),
        ("sigma_y", -0.1),
        ("added_noise", float("nan")),
    ],
)
@pytest.mark.parametrize("rule", ["paper", "noise-aware"])
def test_a_value_that_cannot_be_is_refused_by_name(rule: StepRule, name: str, value: object):
    good = {"N": 2, "K": 1.0, "sigma": (2.0, 1.0), "rule": rule, "step_size": 1.0, "sigma_y": 0.1}
    make_schedule(**good)
    with pytest.raises(InputError) as caught:
        make_schedule(**(good | {name: value}))
    assert caught.value.argument == name


def test_an_unknown_schedule_is_refused():
    with pytest.raises(InputError) as caught:
        noise_levels("quadratic", 3.0, 0.1, 5)  # type: ignore[arg-type]
    assert caught.value.argument == "schedule"
    assert "karras" in str(caught.value)


def test_the_papers_rule_always_takes_K_steps():
    sigma = noise_levels("exponential", 3.0, 0.03, 5)
    schedule = make_schedule(
        N=5, K=25, sigma=sigma, rule="paper", step_size=1e-4, sigma_y=100.0, data_weight_cap=0.01
    )
    assert schedule.steps == (25.0,) * 5
    assert schedule.sigma == sigma
    assert schedule.denoising_step == sigma
    assert len(schedule) == 5


def test_the_denoising_step_is_a_schedule_of_its_own():
    schedule = make_schedule(
        N=2, K=1, sigma=(2.0, 1.0), denoising_step=(0.5, 0.25), rule="paper", step_size=1.0
    )
    assert schedule.sigma == (2.0, 1.0)
    assert schedule.denoising_step == (0.5, 0.25)


def test_added_noise_is_a_fraction_of_the_noise_level_and_all_of_it_in_the_paper():
    paper = make_schedule(N=2, K=1, sigma=(2.0, 1.0), rule="paper", step_size=1.0)
    assert paper.added == paper.sigma == (2.0, 1.0)
    less = make_schedule(N=2, K=1, sigma=(2.0, 1.0), rule="paper", step_size=1.0, added_noise=0.25)
    assert (less.added, less.sigma) == ((0.5, 0.25), (2.0, 1.0))
    with pytest.raises(InputError) as caught:
        make_schedule(N=1, K=1, sigma=(1.0,), rule="paper", step_size=1.0, added_noise=-0.1)
    assert caught.value.argument == "added_noise"


def test_the_noise_aware_rule_caps_the_duration_of_the_flow():
    sigma, eta, sigma_y, data_weight_cap = (
        noise_levels("exponential", 3.0, 0.03, 30),
        9e-5,
        1.7,
        0.8,
    )
    schedule = make_schedule(
        N=30,
        K=25,
        sigma=sigma,
        rule="noise-aware",
        step_size=eta,
        sigma_y=sigma_y,
        data_weight_cap=data_weight_cap,
    )
    capped = [k for k in schedule.steps if k < 25]
    assert 0 < len(capped) < 30, "both regimes must occur for this test to say anything"
    for s, k in zip(sigma, schedule.steps, strict=True):
        assert k * eta == pytest.approx(min(25 * eta, data_weight_cap * s**2 / sigma_y**2))


def test_without_noise_in_the_data_nothing_is_capped():
    schedule = make_schedule(N=1, K=7, sigma=(1e-6,), rule="noise-aware", step_size=1.0)
    assert schedule.steps == (7.0,)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_a_noise_level_that_is_not_a_positive_number_is_refused_by_name(bad: float):
    with pytest.raises(InputError) as caught:
        noise_levels("exponential", bad, 0.03, 5)
    assert caught.value.argument == "sigma_1"
    with pytest.raises(InputError) as caught:
        noise_levels("exponential", 3.0, bad, 5)
    assert caught.value.argument == "sigma_N"


@pytest.mark.parametrize("rule", ["paper", "noise-aware"])
def test_wrong_counts_are_refused_by_name(rule: StepRule):
    with pytest.raises(InputError) as caught:
        noise_levels("exponential", 3.0, 0.03, 0)
    assert caught.value.argument == "N"
    with pytest.raises(InputError) as caught:
        make_schedule(N=3, K=1, sigma=(1.0, 2.0), rule=rule, step_size=1.0)
    assert caught.value.argument == "sigma"
    with pytest.raises(InputError) as caught:
        make_schedule(N=1, K=-1, sigma=(1.0,), rule=rule, step_size=1.0)
    assert caught.value.argument == "K"
    with pytest.raises(ValueError, match="unequal length"):
        Schedule((1.0,), (1.0,), (1.0, 2.0), (1.0,))
