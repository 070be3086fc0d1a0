"""IMOD's command for the reconstruction is heeded, if it is about the stack."""

import numpy as np

from ddgm_dist.acquisition.ingest import ingest
from tests.acquisition.series_files import (
    ANGLES,
    SHAPE,
    angles_file,
    stack,
    tilt_command,
    unused,
)


def test_the_command_for_the_reconstruction(tmp_path):
    path, _ = stack(tmp_path)
    angles_file(tmp_path)
    lines = (
        "THICKNESS 40",
        "OFFSET 2.5 3.0",
        "SHIFT 1.0 6.0",
        "EXCLUDELIST2 2,4-5",
        "XAXISTILT 1.5",
    )
    tilt_command(tmp_path, *lines)
    series = ingest(path, tmp_path / "t.zarr")
    kept = [a + 2.5 for i, a in enumerate(ANGLES) if i + 1 not in (2, 4, 5)]
    assert series.meta.angles_deg == tuple(kept)
    assert series.meta.thickness_px == 40
    theta = np.deg2rad(kept)
    dy, dx = np.array(series.meta.shifts_px).T
    np.testing.assert_allclose(dx, 6.0 * np.sin(theta) + 3.0 * (1 - np.cos(theta)))
    assert not dy.any()
    assert [v.view for v in series.meta.provenance.left_out] == [2, 4, 5]
    record = series.meta.provenance
    assert any("XAXISTILT 1.5" in u.why for u in record.unused)
    # The user's word counts more.
    given = ingest(path, tmp_path / "u.zarr", angle_offset=0.0, thickness=12)
    assert given.meta.angles_deg == tuple(a - 2.5 for a in kept)
    assert given.meta.thickness_px == 12


def test_a_command_about_another_stack_is_named_and_not_used(tmp_path):
    path, _ = stack(tmp_path)
    angles_file(tmp_path)
    tilt_command(tmp_path, "THICKNESS 40")
    text = (tmp_path / "tilt.com").read_text().replace("ts_ali", "other_ali")
    (tmp_path / "tilt.com").write_text(text)
    series = ingest(path, tmp_path / "t.zarr")
    assert series.meta.thickness_px is None
    assert unused(series)["tilt.com"] == "it is about other_ali.mrc"


def test_sizes_of_a_binned_aligned_stack_are_binned(tmp_path):
    path, _ = stack(tmp_path, "ts_ali.mrc")
    angles_file(tmp_path)
    tilt_command(tmp_path, "THICKNESS 40", "IMAGEBINNED 4", "SHIFT 0.0 8.0")
    series = ingest(path, tmp_path / "t.zarr")
    assert series.meta.thickness_px == 10
    np.testing.assert_allclose(
        np.array(series.meta.shifts_px)[:, 1], 2.0 * np.sin(np.deg2rad(ANGLES))
    )


def test_the_command_of_another_stack_with_a_longer_name_is_not_used(tmp_path):
    path, _ = stack(tmp_path)
    angles_file(tmp_path)
    tilt_command(tmp_path, "THICKNESS 40", "EXCLUDELIST 1")
    text = (tmp_path / "tilt.com").read_text().replace("ts_ali", "ts_2_ali")
    (tmp_path / "tilt.com").write_text(text)
    assert ingest(path, tmp_path / "t.zarr").shape == SHAPE


def test_the_tilt_command_names_its_file_of_angles(tmp_path):
    path, _ = stack(tmp_path)
    angles_file(tmp_path)
    angles_file(tmp_path, "other.tlt", tuple(a + 1 for a in ANGLES))
    tilt_command(tmp_path, "TILTFILE other.tlt", "XTILTFILE other.xtilt")
    series = ingest(path, tmp_path / "t.zarr")
    assert series.meta.angles_deg == tuple(a + 1 for a in ANGLES)
    assert any("other.xtilt" in line for line in series.meta.provenance.warnings)


def test_an_aligned_part_of_the_images_has_its_axis_off_the_middle(tmp_path):
    path, _ = stack(tmp_path, "ts_ali.mrc")
    angles_file(tmp_path)
    tilt_command(tmp_path, "FULLIMAGE 64 20", "SUBSETSTART 10 0")
    series = ingest(path, tmp_path / "t.zarr")
    # The axis is at column 32 - 10 of the part, whose middle is at 12.
    assert series.meta.shifts_px == ((0.0, 10.0),) * 7
