"""What is planted in a series is found, and where nothing is planted nothing is."""

import numpy as np
import pytest

from ddgm_dist.alignment.judge import judge
from ddgm_dist.alignment.small_views import SmallViews
from tests.acquisition.serialem import WIDTH, phantom_projections
from tests.alignment.misaligned import ANGLES, left_over, plant


@pytest.fixture(scope="module")
def projections():
    return phantom_projections(WIDTH)[1]


def judged(planted, *, angles=None, shifts=None):
    meta = planted.meta
    values = {"angles_deg": meta.angles_deg if angles is None else tuple(map(float, angles))}
    if shifts is not None:
        values["shifts_px"] = tuple(map(tuple, shifts.tolist()))
    return judge(SmallViews(planted.images, 1), type(meta)(**values))


@pytest.mark.parametrize(
    "how",
    [{}, {"noise": 0.5}, {"counts": True, "hot": 18}, {"angles": ANGLES[::3]}],
    ids=["clean", "noise", "counts", "coarse"],
)
def test_a_well_aligned_series_is_quiet(projections, how):
    found = judged(plant(projections, **how))
    assert found.is_good
    assert found.axis_deg is None or abs(found.axis_deg) < 3
    assert found.shift_rms_px < 0.7
    assert abs(found.axis_offset_px) < 1.5
    assert found.angle_offset_deg is None


@pytest.mark.parametrize(
    ("shift", "offset", "noise"), [(2, 0, 0.03), (8, 0, 0.5), (4, 5, 0.1)], ids=str
)
def test_shifts_are_found(projections, shift, offset, noise):
    planted = plant(projections, shift=shift, offset=offset, noise=noise, seed=shift)
    found = judged(planted)
    assert found.shifts_found
    assert "shifted" in found.findings[0]
    across, along = left_over(found, planted)
    assert across < 0.8
    assert along < 0.5


@pytest.mark.parametrize("offset", [5.0, -8.0])
def test_the_offset_of_the_axis_is_found_with_its_sign(projections, offset):
    found = judged(plant(projections, offset=offset))
    assert found.axis_offset_px == pytest.approx(offset, abs=0.8)
    assert found.shifts_found
    assert any("off the middle" in text for text in found.findings)


def test_shifts_that_the_series_states_are_no_finding(projections):
    planted = plant(projections, shift=4, offset=5)
    found = judged(planted, shifts=planted.shifts)
    assert found.is_good
    assert abs(found.axis_offset_px) < 1


@pytest.mark.parametrize("axis", [84.0, -96.0, 4.0, 30.0])
def test_the_direction_of_the_axis_is_found(projections, axis):
    found = judged(plant(projections, axis=axis, shift=8, counts=True, hot=18))
    away = (found.axis_deg - axis + 90) % 180 - 90
    assert abs(away) < 2
    if abs(axis) > 5:
        assert "tilt axis" in found.findings[0]
        assert not found.can_be_mended


@pytest.mark.parametrize("degrees", [3.0, -8.0])
def test_an_inclined_slab_is_found(projections, degrees):
    found = judged(plant(projections), angles=ANGLES - degrees)
    assert found.angle_offset_deg == pytest.approx(degrees, abs=0.4)
    assert not found.shifts_found


def test_counts_are_found(projections):
    planted = plant(projections)
    planted.images = 3000 * np.exp(-planted.images)
    assert "--counts" in judged(planted).findings[0]


@pytest.mark.parametrize("order", ["dose", "random"])
def test_views_in_another_order_than_the_angles_are_found(projections, order):
    planted, tilts = plant(projections), len(ANGLES)
    symmetric = np.array(sorted(range(tilts), key=lambda i: (abs(ANGLES[i]), i % 2)))
    moved = symmetric if order == "dose" else np.random.default_rng(0).permutation(tilts)
    planted.images = planted.images[moved]
    found = judged(planted)
    assert "different orders" in found.findings[0]
    assert found.shifts_px is None
    planted.angles = ANGLES[moved]
    assert judged(planted).is_good


def test_noise_alone_is_said_to_be_noise():
    noise = np.random.default_rng(0).standard_normal((41, 64, 64))
    found = judge(SmallViews(noise, 1), plant(noise[:, :8, :8], size=(8, 8)).meta)
    assert "hardly alike" in found.findings[0]
    assert found.shifts_px is None


@pytest.mark.parametrize(
    ("size", "angles"),
    [((8, 128), ANGLES), ((128, 128), ANGLES[::10]), ((128, 128), ANGLES[18:21])],
    ids=["eight rows", "five views", "three views"],
)
def test_what_cannot_be_told_is_left_open(projections, size, angles):
    found = judged(plant(projections, size=size, angles=angles, shift=6))
    assert found.is_good
    assert (found.axis_deg, found.shifts_px, found.axis_offset_px) == (None, None, None)


def test_small_tilts_show_shifts_and_not_the_axis(projections):
    planted = plant(projections, angles=ANGLES[14:27], shift=4, size=(96, 128))
    found = judged(planted)
    assert found.axis_offset_px is None
    assert max(left_over(found, planted)) < 0.5


def test_unequal_steps_of_the_angle_change_nothing(projections):
    angles = np.concatenate([ANGLES[:10], ANGLES[10:30:3], ANGLES[30:]])
    planted = plant(projections, angles=angles, shift=4)
    assert max(left_over(judged(planted), planted)) < 0.9


def test_the_size_of_a_block_is_the_unit_of_shifts(projections):
    planted = plant(projections, shift=4, size=(64, 96), angles=ANGLES[8:33])
    one = judged(planted)
    four = judge(SmallViews(planted.images, 4), planted.meta)
    assert np.allclose(np.array(four.shifts_px), 4 * np.array(one.shifts_px))


def test_unmeasured_pixels_say_nothing(projections):
    planted = plant(projections, shift=4)
    planted.images[:, :, :10] = np.nan
    planted.images[5] = np.nan
    planted.images[7, 20:40] = np.nan
    found = judged(planted)
    keep = np.arange(len(ANGLES)) != 5
    rest = (np.array(found.shifts_px) - planted.shifts)[keep]
    assert float(np.std(rest[:, 0])) < 1.2
