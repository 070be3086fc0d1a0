"""Sums by view: they add, and come back from a receipt; what is no sum is none."""

import json
import math
from typing import Any

import pytest

from ddgm_dist.core.view_sums import ViewSums

SUMS = ViewSums((2.0, 0.0), (1.0, 0.0), (8.0, 0.0), (-0.5, 0.0))


def test_they_add() -> None:
    assert ViewSums.zero(2) + SUMS == SUMS
    assert ViewSums((4.0, 0.0), (2.0, 0.0), (16.0, 0.0), (-1.0, 0.0)) == SUMS + SUMS
    with pytest.raises(ValueError, match=r"shorter|longer"):
        SUMS + ViewSums.zero(3)


def test_they_come_back_from_a_file() -> None:
    exact = ViewSums((math.pi * 1e9,), (1 / 3,), (0.0,), (-math.e,))
    found = ViewSums.from_dict(json.loads(json.dumps(exact.to_dict())))
    assert found is not None
    assert found.squared == pytest.approx(exact.squared, rel=1e-7)
    assert found.shared == pytest.approx(exact.shared, rel=1e-7)
    assert ViewSums.from_dict(found.to_dict()) == found


@pytest.mark.parametrize(
    "change",
    [
        {"squared": None},
        {"squared": 3.0},
        {"squared": [1.0]},
        {"squared": [1.0, "2"]},
        {"squared": [1.0, math.nan]},
        {"samples": [math.inf, 1.0]},
        {"shared": [True, 1.0]},
    ],
    ids=str,
)
def test_what_is_no_sum_is_none(change: dict[str, Any]) -> None:
    assert ViewSums.from_dict(SUMS.to_dict() | change) is None
    assert ViewSums.from_dict(None) is None
    assert ViewSums.from_dict([1.0]) is None
    older = SUMS.to_dict()
    del older["shared"]
    assert ViewSums.from_dict(older) is None
