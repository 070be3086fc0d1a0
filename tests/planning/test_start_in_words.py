"""A restored start is named with its restorer and what is in it; a start from zero is not."""

from typing import Any

import pytest

from ddgm_dist.planning.restored_start import RestorerTraits
from ddgm_dist.planning.start_in_words import start_in_words
from tests.problems import MakeProblem


@pytest.mark.parametrize("name", ["fibsem", "mine:f", "/w/r.safetensors"])
def test_a_restored_start_names_restorer_and_digest(make_problem: MakeProblem, name: str) -> None:
    traits = RestorerTraits("85b72d6d26ce" + "f" * 52, 8, 1)
    problem = make_problem(start="restored", restorer=name, traits=traits)
    assert start_in_words(problem.to_dict()) == f"restored by {name} (restorer 85b72d6d26ce)"


def test_a_start_from_zero_has_no_words(make_problem: MakeProblem) -> None:
    assert start_in_words(make_problem(restorer="mine:f").to_dict()) == ""


@pytest.mark.parametrize(
    "record", [{}, {"config": 3}, {"config": {}, "restored": {"restorer": []}}, {"restored": {}}]
)
def test_a_record_without_a_start_has_none(record: dict[str, Any]) -> None:
    assert start_in_words(record) == ""
