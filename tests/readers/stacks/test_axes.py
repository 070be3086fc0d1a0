"""Axes are known by their names, wherever they lie; a block comes back as (tilt, row, column)."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.readers.stacks.axes import find_axes, split_names

NAMES = {"tilt": ("theta", "t", "rotation_angle", "Tilt", ""), "row": ("y",), "column": ("x", "u")}
DATA = np.arange(3 * 4 * 5).reshape(3, 4, 5)


@given(st.permutations(["tilt", "row", "column"]), st.data())
def test_named_axes_are_found_in_any_order(order, data):
    names = [data.draw(st.sampled_from(NAMES[meaning])) for meaning in order]
    stored = DATA.transpose([("tilt", "row", "column").index(meaning) for meaning in order])
    # Axes of extent one may lie anywhere.
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, stored.ndim))
        stored, names = np.expand_dims(stored, at), [*names[:at], "c", *names[at:]]
    axes = find_axes(stored.shape, names, "a")
    assert axes.shape == DATA.shape
    box = Box((1, 0, 2), (3, 2, 5))
    np.testing.assert_array_equal(axes.turn(stored[axes.index(box)]), DATA[box.slices()])


def test_without_names_the_order_is_kept():
    for names in (None, [], ["x"], ["a", "b", "c"]):
        assert find_axes((3, 4, 5), names, "a").order == (0, 1, 2)
    assert find_axes((1, 3, 1, 5), ["c", "z", "y", "x"], "a").shape == (3, 1, 5)
    assert find_axes((1, 1, 3, 4, 5), ["t", "c", "z", "y", "x"], "a").order == (2, 3, 4)


def test_what_has_two_meanings_is_refused():
    with pytest.raises(InputError, match="two of them may count the rows"):
        find_axes((3, 4, 5), ["theta", "y", "rows"], "a")
    assert find_axes((3, 4, 5), ["theta", "y", "rows"], "a", strict=False).order == (0, 1, 2)
    for shape in ((3, 4), (2, 3, 4, 5), (1, 4, 5, 6, 2)):
        with pytest.raises(InputError, match="three axes"):
            find_axes(shape, None, "a")


def test_names_come_in_several_forms():
    expected = ["theta", "y", "x"]
    for text in ("theta:y:x", b"theta:y:x", "[theta, y, x]", expected, np.array(expected, object)):
        assert split_names(text) == expected
    assert split_names([b"theta", None, "x"]) == ["theta", "", "x"]
    assert split_names(None) == []
    assert all(len(split_names(":".join(p))) == 3 for p in itertools.permutations("abc"))
