"""Lists of views, against a slow reading of the same list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddgm_dist.errors import InputError
from ddgm_dist.readers.imod.lists import parse_views


@pytest.mark.parametrize(
    ("text", "views"),
    [
        ("1,7,33-35", (1, 7, 33, 34, 35)),
        (" 7 1 ", (1, 7)),
        ("3 - 5, 4", (3, 4, 5)),
        ("5-3", (3, 4, 5)),
        ("1-3,2-4,1-2,9", (1, 2, 3, 4, 9)),
        ("2\t4", (2, 4)),
        ("100000", (100_000,)),
    ],
)
def test_lists_are_sorted_and_each_view_is_once(text, views):
    assert parse_views(text, "--exclude") == views


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=9))
def test_ranges_are_the_union_of_their_views(ranges):
    text = ", ".join(f"{a}-{b}" if a != b else str(a) for a, b in ranges)
    wanted = {v for a, b in ranges for v in range(min(a, b), max(a, b) + 1)}
    assert parse_views(text, "--exclude", 60) == tuple(sorted(wanted))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "lists no views"),
        ("  ", "lists no views"),
        ("0", "'0' is outside the views 1 to 41"),
        ("42", "'42' is outside"),
        ("3-100000000", "'3-100000000' is outside"),
        ("1,,2", "'' is no view"),
        ("1,", "'' is no view"),
        ("-3", "'-3' is no view"),
        ("1-2-3", "'1-2-3' is no view"),
        ("1:3", "'1:3' is no view"),
        ("/", "'/' is no view"),
        ("1.5", r"'1\.5' is no view"),
        ("\uff11", "is no view"),
    ],
)
def test_what_is_no_list_of_views_is_refused(text, says):
    with pytest.raises(InputError, match=rf"--exclude = .*{says}.*1,7,33-35"):
        parse_views(text, "--exclude", 41)


def test_a_list_of_many_long_ranges_costs_no_more_than_its_views():
    assert len(parse_views(",".join(["1-100000"] * 20_000), "--exclude")) == 100_000
