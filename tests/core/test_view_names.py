"""Names of views: the number in the source from 1, and the angle."""

import pytest

from ddgm_dist.core.view_names import ViewNames, degrees
from ddgm_dist.tilts.metadata import TiltSeriesMeta
from ddgm_dist.tilts.provenance import Provenance, ViewRecord


def meta(numbers: list[int]) -> TiltSeriesMeta:
    views = [ViewRecord(number, 0.0) for number in numbers]
    return TiltSeriesMeta((-45.0, 0.0, 3.25), provenance=Provenance(views=views))


def test_a_view_has_the_number_of_its_source() -> None:
    found = meta([31, 4, 7])
    assert found.views.name(0) == "view 31 (-45 degrees)"
    assert found.views.name(2) == "view 7 (+3.25 degrees)"
    assert [found.views.number(i) for i in range(3)] == [31, 4, 7]
    assert found.views.note == ""


@pytest.mark.parametrize(
    "found", [TiltSeriesMeta((-45.0, 0.0, 3.25)), meta([]), meta([1, 2])], ids=["none", "no", "few"]
)
def test_without_a_source_it_is_that_of_the_stored_view(found: TiltSeriesMeta) -> None:
    assert found.views.name(0) == "view 1 (-45 degrees)"
    assert found.views.numbers is None
    assert "numbered from 1 as they are stored" in found.views.note


def test_several_views_are_cut_short() -> None:
    names = ViewNames((-2.0, 0.0, 2.0), (5, 6, 9))
    assert names.listed([2, 0], 2) == "9 (+2 degrees), 5 (-2 degrees)"
    assert names.listed([2, 0, 1], 1) == "9 (+2 degrees), ..."
    assert ViewNames().listed([4], 1) == "5"
    assert degrees(None) == degrees(float("nan")) == "unknown angle"
