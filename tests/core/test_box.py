"""Laws of boxes: half-open, global, columns may be negative."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddgm_dist.core.box import Box

spans = st.tuples(st.integers(-5, 8), st.integers(0, 6)).map(lambda p: (p[0], p[0] + p[1]))
boxes = st.tuples(spans, spans, spans).map(
    lambda s: Box((s[0][0], s[1][0], s[2][0]), (s[0][1], s[1][1], s[2][1]))
)


def voxels(box: Box) -> set[tuple[int, int, int]]:
    ranges = [range(a, b) for a, b in zip(box.start, box.stop, strict=True)]
    return {(z, y, x) for z in ranges[0] for y in ranges[1] for x in ranges[2]}


@settings(deadline=None, max_examples=30, derandomize=True)
@given(boxes, boxes)
def test_a_box_behaves_as_the_set_of_its_voxels(a: Box, b: Box):
    assert a.size == len(voxels(a))
    common = a.intersection(b)
    assert (voxels(common) if common else set()) == voxels(a) & voxels(b)
    assert (common is None) == (not voxels(a) & voxels(b))
    if voxels(b):
        assert a.contains(b) == (voxels(b) <= voxels(a))


def test_slices_address_an_array_whose_origin_is_elsewhere():
    whole, part = Box((0, 2, -4), (3, 6, 8)), Box((1, 3, -2), (3, 5, 5))
    array = np.arange(whole.size).reshape(whole.shape)
    got = array[part.slices(whole.start)]
    assert got.shape == part.shape
    assert got[0, 0, 0] == array[1, 1, 2]
    assert (part.y, part.x) == (slice(3, 5), slice(-2, 5))


def test_a_box_that_ends_before_it_starts_is_refused():
    with pytest.raises(ValueError, match="before its start"):
        Box((0, 0, 3), (1, 1, 2))
