"""Full-range angles: folding follows the definition of a projection."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ddgm_dist.errors import InputError
from ddgm_dist.simulation.projector import project
from ddgm_dist.views.angles_range import fold, full_range_hint, too_steep


@settings(derandomize=True)
@given(angle=st.floats(-1000, 1000))
@example(90.0)
@example(-90.0)
@example(math.nextafter(90, 0))
@example(math.nextafter(-90, -100))
@example(math.nextafter(270, 0))
def test_a_folded_view_sees_each_point_where_the_mirrored_one_does(angle: float) -> None:
    (folded,), (mirrored,) = fold([angle])
    assert -90 <= folded < 90
    for x, z in ((1.0, 0.0), (0.0, 1.0), (3.0, -2.0)):
        u, seen = (
            x * math.cos(math.radians(a)) + z * math.sin(math.radians(a)) for a in (angle, folded)
        )
        assert (-u if mirrored else u) == pytest.approx(seen, abs=1e-9)
    if -90 <= angle < 90:
        assert (folded, mirrored) == (angle, False)


def test_projections_half_a_turn_apart_are_mirror_images() -> None:
    volume = np.random.default_rng(0).random((9, 3, 12)).astype(np.float32)
    folded, mirrored = fold([120.0, 150.0, 10.0])
    assert folded == (-60.0, -30.0, 10.0)
    assert mirrored == (True, True, False)
    # The volume turned by half a turn about y, seen at the folded angle, is that seen at the angle.
    turned = project(volume[::-1, :, ::-1], folded[:2], n_u=16)
    kept = project(volume, folded[:2], n_u=16)
    np.testing.assert_allclose(turned, kept[..., ::-1], atol=1e-4)


def test_steep_views_are_named() -> None:
    assert too_steep([-90, -84.9, 0, 85, 120]) == (0, 3, 4)
    assert too_steep([0, 70, -71], limit=70) == (1, 2)
    assert too_steep([math.nan]) == (0,)


def test_the_hint_says_how_many_views_are_left() -> None:
    assert full_range_hint(range(-60, 61)) is None
    hint = full_range_hint(np.arange(0, 181, 2.0))
    assert hint is not None
    # 0 to 60, and 120 to 180.
    assert "--max-angle 60 keeps 62 views" in hint
    assert "48 of 91 views" in hint
    assert "mirror image" in hint
    nothing = full_range_hint([90.0, 91.0, 89.0])
    assert nothing is not None
    assert "--max-angle" not in nothing
    assert full_range_hint([math.nan]) is None


def test_an_angle_that_is_no_number_is_refused() -> None:
    with pytest.raises(InputError, match=r"angles_deg\[1\]"):
        fold([0.0, math.inf])
