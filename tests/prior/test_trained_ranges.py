"""Numbers of a series outside of a restorer's training are reported, with their bounds."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.errors import InputError
from ddgm_dist.prior.trained_ranges import TrainedRanges

TRAINED = TrainedRanges((40, 78), (0.8, 6.5), (32, 256), (0.01, 2.0))


def series(first: float, last: float, count: int, thickness: int = 64) -> Acquisition:
    step = (last - first) / max(1, count - 1)
    return Acquisition(tuple(first + k * step for k in range(count)), thickness)


@pytest.mark.parametrize(
    ("seen", "noise"),
    [
        (series(-60, 60, 61), 0.05),
        (series(60, -60, 61), None),
        (series(-40, 40, 101, 32), 2.0),
        (series(-20, 70, 31, 256), 0.01),
    ],
)
def test_a_series_like_those_of_the_training_is_not_reported(
    seen: Acquisition, noise: float | None
) -> None:
    assert TRAINED.outside(seen, noise) == ()


def test_each_number_outside_is_reported() -> None:
    found = TRAINED.outside(Acquisition((-20.0, 30.0), 12), 0.001)
    assert found == (
        "a tilt range of 50 degrees (trained for 80 to 156)",
        "2 tilts, 50 degrees apart (trained for 0.8 to 6.5)",
        "a thickness of 12 voxels (trained for 32 to 256)",
        "noise of 0.1 % of the projections' deviation (trained for 1 to 200)",
    )
    (said,) = TRAINED.outside(series(-60, 60, 11), None)
    assert said.startswith("11 tilts, 12 degrees apart")
    assert TrainedRanges().outside(Acquisition((0.0,), 1), math.inf) == ()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"max_angle_deg": [40, 78]}, TrainedRanges(max_angle_deg=(40, 78))),
        ({}, TrainedRanges()),
        (None, None),
        ({"noise": (0.01, math.inf)}, TrainedRanges(noise=(0.01, math.inf))),
        # A newer version's key, and a misspelt one: the others count.
        (
            {"dose": [1, 2], "noise": [0, 1], "thicknes": "?"},
            TrainedRanges(noise=(0, 1), unknown=("dose", "thicknes")),
        ),
    ],
)
def test_ranges_come_from_a_recipe(values: Any, expected: TrainedRanges | None) -> None:
    assert TrainedRanges.from_dict(values, "w.json") == expected


def test_unknown_keys_are_told_with_what_may_be_meant() -> None:
    found = TrainedRanges.from_dict({"dose": [1, 2], "thicknes": [1, 2]}, "w.json")
    assert found is not None
    assert found.unread() == ("dose", "thicknes (for thickness?)")
    assert TRAINED.unread() == ()


@pytest.mark.parametrize(
    "value",
    [[1], 1, ["a", "b"], ["1", "2"], "12", [2, 1], [math.nan, 1], [1, None], [1, 2, 3], None, {}],
)
def test_a_value_that_cannot_be_read_is_refused_by_its_key(value: Any) -> None:
    why = r"^restorer = w\.json: trained_for\.noise = .* is no pair \(least, most\) of numbers"
    with pytest.raises(InputError, match=why):
        TrainedRanges.from_dict({"max_angle_deg": [1, 2], "noise": value}, "w.json")


@pytest.mark.parametrize("values", [[1, 2], "wide", 3])
def test_what_is_no_table_is_refused(values: Any) -> None:
    with pytest.raises(InputError, match=r"^restorer = w\.json: trained_for = .* no table"):
        TrainedRanges.from_dict(values, "w.json")


@pytest.mark.parametrize(
    ("angles", "words"),
    [
        (range(0, 81, 2), "a middle of 40 degrees (trained for 0 to 15)"),
        ((*range(-60, -46), *range(50, 61)), "a gap of 97 degrees between tilts"),
    ],
)
def test_one_sided_series_and_holes_are_outside(angles: Iterable[int], words: str) -> None:
    trained = replace(TRAINED, middle_deg=(0, 15), gap_deg=(0, 26))
    said = trained.outside(Acquisition(tuple(map(float, angles)), 64), 0.1)
    assert any(words in clause for clause in said)
    assert trained.outside(Acquisition(tuple(map(float, range(-60, 61, 2))), 64), 0.1) == ()
