"""Faulty views are named, and views without a fault are not."""

import numpy as np
import pytest

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.simulation.phantom import TissuePhantom
from ddgm_dist.simulation.projector import project
from ddgm_dist.views.affine import Affine
from ddgm_dist.views.faults import find_faults
from ddgm_dist.views.measure import measure_view

ANGLES = [float(a) for a in range(-60, 61, 5)]
ORDER = np.argsort(np.abs(ANGLES), kind="stable")


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    """Counts of tissue, as a microscope stores them."""
    shape = (24, 96, 360)
    volume = TissuePhantom(shape, seed=1).read(Box((0, 0, 0), shape))
    clean = project(volume, ANGLES, n_u=128)
    mean = 300 * np.exp(1 - clean / clean.mean())
    return np.random.default_rng(0).poisson(mean).astype(np.float32)


def faults(views, angles=ANGLES, affines=None):
    found = [measure_view(lambda y, x, v=view: v[y, x], view.shape) for view in views]
    return find_faults(found, angles, affines or [Affine()] * len(views), views.shape[1:])


def said(views, *more) -> list[tuple[int, str]]:
    return [(one.view, one.kind) for one in faults(views, *more)]


def test_a_series_without_a_fault_has_none(counts: np.ndarray) -> None:
    assert said(counts) == []
    assert said(counts[ORDER], [ANGLES[k] for k in ORDER]) == []
    r = np.random.default_rng(1)
    noisy = counts + counts.std() * r.standard_normal(counts.shape).astype(np.float32)
    assert said(noisy) == []


@pytest.mark.parametrize(
    ("view", "shift"),
    [(5, (0, 40)), (12, (15, -12)), (19, (15, -12)), (24, (-25, 0))],
)
def test_a_displaced_view_is_found_with_its_shift(counts, view, shift) -> None:
    faulty = counts.copy()
    faulty[view] = np.roll(faulty[view], shift, (0, 1))
    (one,) = faults(faulty)
    assert (one.view, one.kind, one.certain) == (view, "displaced", True)
    assert one.shift_px == pytest.approx(shift, abs=3)
    assert one.text.startswith(f"view {view + 1} ({ANGLES[view]:+g} degrees) is displaced: ")


def test_the_order_of_the_views_makes_no_difference(counts: np.ndarray) -> None:
    faulty = counts.copy()
    faulty[7] = np.roll(faulty[7], 25, 1)
    (one,) = faults(faulty[ORDER], [ANGLES[k] for k in ORDER])
    assert ORDER[one.view] == 7


def test_a_foreign_image_is_found(counts: np.ndarray) -> None:
    faulty = counts.copy()
    faulty[9] = counts[10, ::-1, ::-1]
    (one,) = faults(faulty)
    assert (one.view, one.kind, one.shift_px) == (9, "displaced", None)


def test_a_displaced_view_is_found_beside_a_foreign_one(counts: np.ndarray) -> None:
    faulty = counts.copy()
    faulty[9], faulty[18] = counts[10, ::-1, ::-1], np.roll(counts[18], 30, 1)
    assert [(one.view, one.shift_px is None) for one in faults(faulty)] == [(9, True), (18, False)]


def test_the_tilt_axis_may_lie_along_the_rows(counts: np.ndarray) -> None:
    """At steep tilts views are alike only if they are stretched in the right direction."""
    faulty = np.ascontiguousarray(counts.transpose(0, 2, 1))
    assert said(faulty) == []
    faulty[24] = np.roll(faulty[24], -25, 1)
    (one,) = faults(faulty)
    assert (one.view, one.kind) == (24, "displaced")
    assert one.shift_px == pytest.approx((0, -25), abs=3)


def test_views_that_are_all_shifted_are_not_displaced_and_aligned_ones_are_not(counts) -> None:
    r = np.random.default_rng(2)
    shifts = r.integers(-8, 9, (len(ANGLES), 2))
    raw = np.stack([np.roll(v, s, (0, 1)) for v, s in zip(counts, shifts, strict=True)])
    assert said(raw) == []
    aligned = [Affine(dx=-float(dx), dy=-float(dy)) for dy, dx in shifts]
    assert said(raw, ANGLES, aligned) == []
    aligned[5] = Affine(dx=aligned[5].dx + 30, dy=aligned[5].dy)
    (one,) = faults(raw, ANGLES, aligned)
    assert one.view == 5
    assert one.shift_px == pytest.approx((0, 30), abs=3)


@pytest.mark.parametrize(("shift", "expected"), [(14, []), (40, [(12, "displaced")])])
def test_a_shift_is_held_against_what_is_usual(counts, shift, expected) -> None:
    """Views that are off by 4 pixels as a rule: one is no fault at 14, and is one at 40."""
    shaken = np.stack([np.roll(v, 2 * (-1) ** k, 1) for k, v in enumerate(counts)])
    shaken[12] = np.roll(counts[12], shift, 1)
    assert said(shaken) == expected


def test_a_jump_and_a_drift_are_no_displaced_views(counts: np.ndarray) -> None:
    jump = counts.copy()
    jump[13:] = np.roll(jump[13:], 30, 2)
    assert said(jump) == []
    drift = np.stack([np.roll(v, 6 * k, 0) for k, v in enumerate(counts)])
    assert said(drift) == []


def test_blank_views_are_found(counts: np.ndarray) -> None:
    faulty = counts.copy()
    r = np.random.default_rng(3)
    faulty[3], faulty[11], faulty[24] = 7, np.nan, r.poisson(2, faulty[0].shape)
    found = faults(faulty)
    assert [(one.view, one.kind, one.certain) for one in found] == [
        (3, "blank", True),
        (11, "blank", True),
        (24, "blank", True),
    ]
    assert found[0].text == "view 4 (-45 degrees) is blank: all its pixels are 7"
    faulty[11] = 7  # equal ones are blank, not repeated
    assert [one.kind for one in faults(faulty)] == ["blank"] * 3


def test_a_blank_view_is_found_in_a_strip_of_a_few_rows(counts: np.ndarray) -> None:
    """Chance correlates as well as elsewhere; shifts that leave nothing in common do not tell."""
    for seed in range(4):
        strip = counts[:, 40:48].copy()
        assert said(strip) == []
        strip[12] = np.random.default_rng(seed).poisson(3, strip[12].shape)
        assert said(strip) == [(12, "blank")]


def test_a_dim_view_with_an_image_is_not_blank(counts: np.ndarray) -> None:
    faulty = counts.copy()
    faulty[12] = np.rint(faulty[12] / 5)
    assert said(faulty) == []


def test_saturated_views_are_found(counts: np.ndarray) -> None:
    faulty = counts.copy()
    faulty[6] = np.minimum(faulty[6] * 3, 1000)
    faulty[18] *= 20
    found = faults(faulty)
    assert [(one.view, one.kind) for one in found] == [(6, "saturated"), (18, "saturated")]
    assert "largest value, 1000" in found[0].text


def test_the_copy_whose_image_does_not_fit_is_the_repeated_one(counts: np.ndarray) -> None:
    for wrong, right in ((4, 20), (20, 4)):
        faulty = counts.copy()
        faulty[wrong] = faulty[right]
        (one,) = faults(faulty)
        assert (one.view, one.kind, one.other) == (wrong, "repeated", right)
        assert f"of view {right + 1} " in one.text


def test_few_views_say_nothing_on_displacement(counts: np.ndarray) -> None:
    faulty = counts[:4].copy()
    faulty[2] = np.roll(faulty[2], 40, 1)
    assert said(faulty, ANGLES[:4]) == []
    assert faults(counts[:0], [], []) == ()
    assert said(counts[:1], ANGLES[:1]) == []


def test_each_view_needs_an_angle(counts: np.ndarray) -> None:
    with pytest.raises(InputError, match="angles_deg"):
        faults(counts[:4], ANGLES[:3])
