"""The angles of the views: which file counts, and what is said of those that disagree."""

import numpy as np
import pytest

from ddgm_dist.acquisition.ingest import ingest
from ddgm_dist.errors import InputError
from tests.acquisition.series_files import ANGLES, angles_file, facts, mdoc_file, stack, unused


def test_refined_angles_count_before_nominal_ones(tmp_path):
    path, _ = stack(tmp_path)
    refined = tuple(a + 0.25 for a in ANGLES)
    angles_file(tmp_path, "ts.tlt", refined)
    angles_file(tmp_path, "ts.rawtlt")
    mdoc_file(tmp_path, axis=0.0)
    series = ingest(path, tmp_path / "t.zarr")
    assert series.meta.angles_deg == refined
    assert facts(series)["tilt angles"] == ("7, -59.75 to 60.25 degrees", "ts.tlt")
    assert "as those of ts.tlt" in unused(series)["ts.rawtlt"]
    assert not series.meta.provenance.warnings


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ((*tuple(-a - 5 for a in ANGLES[:6]), -70.0), "up to"),
        (ANGLES[1:] + ANGLES[:1], "another order"),
        (ANGLES[::-1], "opposite sign"),
    ],
)
def test_files_that_disagree_are_warned_of(tmp_path, other, says):
    path, _ = stack(tmp_path)
    angles_file(tmp_path, "ts.tlt")
    angles_file(tmp_path, "ts.rawtlt", other)
    series = ingest(path, tmp_path / "t.zarr")
    assert series.meta.angles_deg == ANGLES
    (line,) = series.meta.provenance.warnings
    assert says in line
    assert "ts.tlt is used" in line
    with pytest.raises(InputError, match="refused with --strict"):
        ingest(path, tmp_path / "s.zarr", strict=True)
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize("count", [5, 9])
def test_another_number_of_angles_than_views_names_file_and_numbers(tmp_path, count):
    path, _ = stack(tmp_path)
    angles_file(tmp_path, "ts.tlt", np.linspace(-40, 40, count))
    with pytest.raises(InputError, match=rf"ts\.tlt has {count}, the source 7 views"):
        ingest(path, tmp_path / "t.zarr")


def test_angles_of_the_views_that_are_kept_will_do(tmp_path):
    path, data = stack(tmp_path)
    angles_file(tmp_path, "ts.tlt", ANGLES[:3] + ANGLES[4:])
    series = ingest(path, tmp_path / "t.zarr", exclude=[4])
    assert series.meta.angles_deg == ANGLES[:3] + ANGLES[4:]
    np.testing.assert_array_equal(series.read(slice(None)), np.delete(data, 3, axis=0))


def test_views_without_an_angle_are_left_out_and_named(tmp_path):
    path, _ = stack(tmp_path)
    mdoc_file(tmp_path, axis=0.0, order=(0, 1, 2, 4, 5, 6))
    series = ingest(path, tmp_path / "t.zarr")
    (left,) = series.meta.provenance.left_out
    assert (left.view, left.angle_deg) == (4, None)
    assert "ts.mrc.mdoc has no angle of it" in left.why


def test_steep_views_are_left_out_on_demand(tmp_path):
    path, _ = stack(tmp_path)
    angles_file(tmp_path, "ts.tlt", (-88.0, -40.0, -20.0, 0.0, 20.0, 40.0, 60.0))
    with pytest.raises(InputError, match=r"view 1 must be below 85 degrees.*--max-angle"):
        ingest(path, tmp_path / "t.zarr")
    series = ingest(path, tmp_path / "t.zarr", max_angle=50)
    assert series.meta.angles_deg == (-40.0, -20.0, 0.0, 20.0, 40.0)


def test_views_of_a_full_turn_are_mirrored(tmp_path):
    """Rays at 150 degrees are those at -30 from the other side: u changes its sign."""
    path, data = stack(tmp_path)
    angles_file(tmp_path, "ts.tlt", (0.0, 30.0, 60.0, 90.0, 120.0, 150.0, 180.0))
    series = ingest(path, tmp_path / "t.zarr", max_angle=60, axis_column=13.0)
    assert series.meta.angles_deg == (0.0, 30.0, 60.0, -60.0, -30.0, 0.0)
    read = series.read(slice(None))
    np.testing.assert_array_equal(read[:3], data[:3])
    np.testing.assert_array_equal(read[3:], data[4:, :, ::-1])
    # The axis is at column 13, which is column 10 of the mirrored images; the middle is 11.5.
    assert series.meta.shifts_px == ((0.0, 1.5),) * 3 + ((0.0, -1.5),) * 3
