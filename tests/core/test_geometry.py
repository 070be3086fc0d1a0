"""The geometry's conventions, and errors that name what is wrong."""

import math

import pytest

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.errors import InputError


def test_reach_is_how_far_the_steepest_ray_spreads():
    g = Geometry((10.0, -60.0, 30.0), thickness=128, rows=4, field=100)
    assert g.reach == math.ceil(64 * math.tan(math.radians(60))) == 111
    assert Geometry((0.0,), 128, 4, 100).reach == 0


def test_a_slab_is_padded_by_its_reach_and_an_isolated_specimen_is_not():
    slab = Geometry((-45.0, 45.0), 20, 4, 100)
    assert slab.domain == (-slab.reach, 100 + slab.reach)
    isolated = Geometry((-45.0, 45.0), 20, 4, 100, boundary="vacuum")
    assert isolated.domain == (0, 100)


def test_angles_are_degrees_outside_and_radians_inside():
    g = Geometry((90.0 / 3, -30.0), 20, 4, 100, ((0.5, -1.5), (0.0, 2.0)))
    assert g.tilts == 2
    assert g.angles == pytest.approx((math.pi / 6, -math.pi / 6))
    assert g.shift(0) == (0.5, -1.5)
    assert Geometry((0.0,), 20, 4, 100).shift(0) == (0.0, 0.0)


@pytest.mark.parametrize("angle", [85.0, -90.0, math.nan, math.inf])
def test_an_angle_along_the_slab_is_refused_by_its_index(angle: float):
    with pytest.raises(InputError, match=r"85 degrees") as caught:
        Geometry((0.0, angle), 20, 4, 100)
    assert caught.value.argument == "angles_deg[1]"


@pytest.mark.parametrize("name", ["thickness", "rows", "field"])
def test_an_empty_extent_is_refused_by_name(name: str):
    extents = {"thickness": 8, "rows": 8, "field": 8, name: 0}
    with pytest.raises(InputError) as caught:
        Geometry((0.0,), extents["thickness"], extents["rows"], extents["field"])
    assert caught.value.argument == name


def test_no_tilts_and_missing_shifts_are_refused():
    with pytest.raises(InputError, match="at least one tilt"):
        Geometry((), 8, 8, 8)
    with pytest.raises(InputError, match="there are 2 tilts") as caught:
        Geometry((0.0, 1.0), 8, 8, 8, ((0.0, 0.0),))
    assert caught.value.argument == "shifts_px"


@pytest.mark.parametrize(
    ("name", "limit"), [("thickness", 1 << 15), ("rows", 1 << 16), ("field", (1 << 30) - 10)]
)
def test_more_voxels_than_the_noise_has_addresses_are_refused(name: str, limit: int):
    extents = {"thickness": 20, "rows": 4, "field": 100}
    largest = Geometry((45.0,), **{**extents, name: limit})
    assert max(abs(x) for x in largest.domain) <= 1 << 30
    with pytest.raises(InputError, match="addresses") as caught:
        Geometry((45.0,), **{**extents, name: limit + 1})
    assert caught.value.argument == name
