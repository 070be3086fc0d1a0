"""Units are read in every spelling; angles without one are never off by the factor of a radian."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddgm_dist.errors import InputError
from ddgm_dist.readers.units import angle_unit_deg, angles_in_degrees, length_unit_nm


@pytest.mark.parametrize(
    ("names", "nm"),
    [
        (("m", "meter", "Metres", b"m\0"), 1e9),
        (("mm", "millimeter", "MM"), 1e6),
        (("um", "µm", "μm", "micron", "Microns", "micrometer", " micrometres "), 1e3),
        (("nm", "NM", "nanometer", "nanometre", "nanometers"), 1),
        (("A", "Å", "Å", "angstrom", "Angstroms", "ångström"), 0.1),
        (("pm", "picometer"), 1e-3),
        (("pixel", "px", "", "Mm", "deg", "counts", None, 7), None),
    ],
)
def test_units_of_length(names, nm):
    for name in names:
        assert length_unit_nm(name) == (nm if nm is None else pytest.approx(nm)), name


def test_units_of_angle():
    for name in ("deg", "degs", "degree", "Degrees", "°", b"deg"):
        assert angle_unit_deg(name) == 1
    for name in ("rad", "radian", "Radians", "rads"):
        assert angle_unit_deg(name) == pytest.approx(180 / math.pi)
    assert angle_unit_deg("mrad") == pytest.approx(0.18 / math.pi)
    for name in ("mm", "", "steps", None):
        assert angle_unit_deg(name) is None


series = st.tuples(
    st.floats(-180, 180), st.floats(5, 360), st.integers(2, 90), st.integers(0, 3)
).map(lambda s: np.round(s[0] + np.linspace(0, s[1], s[2]), s[3]))


@given(series, st.sampled_from(["deg", "rad", ""]))
def test_no_answer_is_off_by_a_radian(degrees, unit):
    """A series of at least 5 degrees gives itself, whatever its unit, or an error."""
    for scale in (1, math.pi / 180):
        named = {1: "deg"}.get(scale, "rad") if unit else ""
        try:
            found, how = angles_in_degrees((degrees * scale).tolist(), named, "theta")
        except InputError:
            continue
        np.testing.assert_allclose(found, degrees, atol=1e-9)
        assert ("range" in how) == (not named)


@given(st.floats(20, 180), st.integers(2, 200), st.booleans())
def test_tilt_series_are_understood_without_a_unit(span, count, radians):
    """Degrees of a usual span always are; radians where they span one, and are no round numbers."""
    degrees = np.linspace(-span / 2, span / 2, count)
    values = np.radians(degrees) if radians else degrees
    try:
        found, _ = angles_in_degrees(values.tolist(), None, "theta")
    except InputError:
        assert radians
        assert span < math.degrees(1) or np.allclose(
            100 * values, np.round(100 * values), atol=1e-4
        )
        return
    np.testing.assert_allclose(found, degrees)


@pytest.mark.parametrize("count", [5, 181])
def test_units_that_contradict_the_range_are_refused(count):
    degrees = np.linspace(0, 179.3, count)
    for values, unit in ((np.radians(degrees), "deg"), (degrees, "rad")):
        with pytest.raises(InputError, match="can only be"):
            angles_in_degrees(values.tolist(), unit, "theta")
    with pytest.raises(InputError, match="no unit of angle"):
        angles_in_degrees(degrees.tolist(), "mm", "theta")


@given(st.lists(st.floats(), min_size=1, max_size=9), st.one_of(st.none(), st.text(max_size=6)))
def test_any_numbers_give_finite_angles_or_an_error(values, unit):
    try:
        found, _ = angles_in_degrees(values, unit, "theta")
    except InputError:
        return
    assert len(found) == len(values)
    assert all(math.isfinite(angle) for angle in found)
