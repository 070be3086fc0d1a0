"""Nothing beside a stack that changes its geometry is passed over in silence."""

import numpy as np
import pytest

from ddgm_dist.acquisition.ingest import ingest
from ddgm_dist.errors import InputError
from tests.acquisition.series_files import (
    ANGLES,
    SHAPE,
    angles_file,
    facts,
    mdoc_file,
    stack,
    tilt_command,
    unused,
    xf_file,
)

ALL = slice(None)
# A quarter turn: what is at (x, y) from the middle goes to (y, -x).
QUARTER = (0.0, 1.0, -1.0, 0.0, 0.0, 0.0)


def test_an_xf_beside_a_raw_stack_is_applied(tmp_path):
    path, data = stack(tmp_path)
    angles_file(tmp_path)
    xf_file(tmp_path, [QUARTER] * 7)
    series = ingest(path, tmp_path / "t.zarr")
    assert series.shape == (7, 24, 20)
    # x' = y: columns are the raw rows; y' = -x: rows are the raw columns from the last one on.
    np.testing.assert_array_equal(series.read(ALL), data.transpose(0, 2, 1)[:, ::-1])
    assert facts(series)["alignment"] == ("7 transforms", "ts.xf")


def test_it_is_not_applied_if_none_is_wanted_or_the_stack_is_aligned(tmp_path):
    path, data = stack(tmp_path)
    angles_file(tmp_path)
    xf_file(tmp_path, [QUARTER] * 7)
    series = ingest(path, tmp_path / "t.zarr", xf="none")
    np.testing.assert_array_equal(series.read(ALL), data)
    assert "--xf none" in unused(series)["ts.xf"]
    aligned, data = stack(tmp_path, "ts_ali.mrc", seed=1)
    series = ingest(aligned, tmp_path / "a.zarr")
    np.testing.assert_array_equal(series.read(ALL), data)
    assert "aligned already" in unused(series)["ts.xf"]
    assert facts(series)["tilt angles"][1] == "ts.tlt"


def test_a_shift_by_whole_pixels_moves_them_and_leaves_the_rest_unmeasured(tmp_path):
    path, data = stack(tmp_path)
    angles_file(tmp_path)
    xf_file(tmp_path, [(1.0, 0.0, 0.0, 1.0, 3.0, -2.0)] * 7)
    series = ingest(path, tmp_path / "t.zarr")
    read = series.read(ALL)
    np.testing.assert_array_equal(read[:, :-2, 3:], data[:, 2:, :-3])
    assert np.isnan(read[:, -2:]).all()
    assert np.isnan(read[:, :, :3]).all()
    # Nothing need be said of them to reconstruct.
    assert series.meta.bad_pixels == "unmeasured"


def test_the_axis_of_the_mdoc_turns_a_stack_without_transforms(tmp_path):
    path, data = stack(tmp_path)
    mdoc_file(tmp_path, axis=-90.0)
    series = ingest(path, tmp_path / "t.zarr")
    # The axis points along +x, so x becomes y, and y becomes -x.
    np.testing.assert_array_equal(series.read(ALL), data.transpose(0, 2, 1)[:, :, ::-1])
    assert series.meta.angles_deg == ANGLES
    assert "mdoc" in facts(series)["tilt axis"][1]
    given = ingest(path, tmp_path / "u.zarr", tilt_axis_angle=0.0)
    np.testing.assert_array_equal(given.read(ALL), data)
    assert "--tilt-axis-angle" in unused(given)["ts.mrc.mdoc"]


@pytest.mark.parametrize("count", [6, 8])
def test_transforms_of_another_stack_are_refused(tmp_path, count):
    path, _ = stack(tmp_path)
    angles_file(tmp_path)
    xf_file(tmp_path, [QUARTER] * count)
    with pytest.raises(InputError, match=rf"ts\.xf: has {count} transforms for 7 views.*--xf none"):
        ingest(path, tmp_path / "t.zarr")


def test_a_transform_that_mirrors_is_refused(tmp_path):
    path, _ = stack(tmp_path)
    angles_file(tmp_path)
    xf_file(tmp_path, [QUARTER] * 6 + [(1.0, 0.0, 0.0, -1.0, 0.0, 0.0)])
    with pytest.raises(InputError, match="mirrors view 7"):
        ingest(path, tmp_path / "t.zarr")


def test_two_alignments_are_not_chosen_between(tmp_path):
    path, _ = stack(tmp_path)
    angles_file(tmp_path)
    xf_file(tmp_path, [QUARTER] * 7)
    (tmp_path / "ts.aln").write_text("")
    with pytest.raises(InputError, match=r"ts\.xf and ts\.aln: both say how.*--xf FILE"):
        ingest(path, tmp_path / "t.zarr")
    with pytest.raises(InputError, match="turns the images, and so does"):
        ingest(path, tmp_path / "t.zarr", xf=tmp_path / "ts.xf", tilt_axis_angle=3.0)
    # A file beside the stack need not be named with its folder.
    assert ingest(path, tmp_path / "t.zarr", xf="ts.xf").shape == (7, 24, 20)


ALN = """# AreTomo Alignment / Priims bprmMn
# RawSize = 24 20 7
# NumPatches = {patches}
# DarkFrame =     2     2   -20.00
# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE     BASE     TILT
"""


def aln_file(folder, patches=0):
    rows = [
        f"{i:5d}  90.0000    1.00000    2.000    -1.000     1.0     1.0     1.0     0.0  {a + 1:8.2f}\n"
        for i, a in enumerate(ANGLES)
        if i != 2
    ]
    local = "".join(f"{i} 0 1.0 2.0 3.0 4.0 1.0\n" for i in range(6 * patches))
    local = f"# Local Alignment\n{local}" if patches else ""
    (folder / "ts.aln").write_text(ALN.format(patches=patches) + "".join(rows) + local)


def test_the_alignment_of_aretomo(tmp_path):
    path, data = stack(tmp_path)
    angles_file(tmp_path)
    aln_file(tmp_path)
    series = ingest(path, tmp_path / "t.zarr", thickness=9)
    assert series.meta.angles_deg == tuple(a + 1 for i, a in enumerate(ANGLES) if i != 2)
    assert [v.view for v in series.meta.provenance.left_out] == [3]
    # Shifted by (-2, 1), then turned by -90 degrees: x' = y + 1, y' = -(x - 2).
    read, kept = series.read(ALL), np.delete(data, 2, axis=0)
    expected = kept.transpose(0, 2, 1)[:, ::-1]
    np.testing.assert_array_equal(read[:, 2:, 1:], expected[:, :-2, :-1])
    # Angles that differ by an offset alone are no contradiction.
    assert "as those of ts.aln" in unused(series)["ts.tlt"]


def test_a_local_alignment_is_refused_by_name(tmp_path):
    path, _ = stack(tmp_path)
    aln_file(tmp_path, patches=1)
    with pytest.raises(InputError, match=r"local alignment.*--xf ts\.aln"):
        ingest(path, tmp_path / "t.zarr")
    series = ingest(path, tmp_path / "t.zarr", xf=tmp_path / "ts.aln")
    assert any("local alignment is not used" in line for line in series.meta.provenance.warnings)


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


def test_the_size_of_the_aligned_images(tmp_path):
    path, _ = stack(tmp_path)
    angles_file(tmp_path)
    xf_file(tmp_path, [(1.0, 0.0, 0.0, 1.0, 0.0, 0.0)] * 7)
    (tmp_path / "newst.com").write_text(
        "$newstack -StandardInput\nInputFile ts.mrc\nOutputFile ts_ali.mrc\nTransformFile ts.xf\n"
        "SizeToOutputInXandY 5,9\nBinByFactor 2\n"
    )
    assert ingest(path, tmp_path / "t.zarr").shape == (7, 18, 10)


def test_a_stack_is_described_by_its_mdoc_as_the_source(tmp_path):
    stack(tmp_path)
    mdoc_file(tmp_path, axis=0.0, order=(3, 4, 2, 5, 1, 6, 0))
    series = ingest(tmp_path / "ts.mrc.mdoc", tmp_path / "t.zarr")
    assert series.meta.angles_deg == ANGLES  # by ZValue, whatever the order of the sections
    assert series.shape == SHAPE


def test_frames_are_found_by_their_base_names_beside_the_mdoc(tmp_path):
    frames = []
    for i, a in enumerate(ANGLES):
        stack(tmp_path, f"f_{i}.mrc", shape=(1, 20, 24), seed=i)
        frames.append(f"[FrameSet = {i}]\nTiltAngle = {a}\nSubFramePath = X:\\day\\f_{i}.mrc\n\n")
    text = "PixelSpacing = 12.0\n\n[T = Tilt axis angle = 0.0, binning = 1]\n\n" + "".join(frames)
    (tmp_path / "ts.mdoc").write_text(text.replace("\n", "\r\n"))
    series = ingest(tmp_path / "ts.mdoc", tmp_path / "t.zarr")
    assert series.meta.angles_deg == ANGLES
    assert series.meta.pixel_size_nm == 1.2
    expected = np.random.default_rng(3).integers(100, 30000, size=(1, 20, 24))
    np.testing.assert_array_equal(series.read(ALL)[3], expected[0])
    (tmp_path / "f_4.mrc").unlink()
    with pytest.raises(InputError, match=r"names 7 images, of which 1 are not beside it: f_4\.mrc"):
        ingest(tmp_path / "ts.mdoc", tmp_path / "u.zarr")


def test_a_folder_that_etomo_works_in(tmp_path):
    stack(tmp_path)
    angles_file(tmp_path)
    tilt_command(tmp_path, "THICKNESS 40")
    series = ingest(tmp_path, tmp_path.with_name(f"{tmp_path.name}.zarr"))
    assert series.meta.thickness_px == 40


def test_files_beside_a_link_belong_to_it(tmp_path):
    (tmp_path / "archive").mkdir()
    (tmp_path / "work").mkdir()
    path, data = stack(tmp_path / "archive", "20240101.mrc")
    angles_file(tmp_path / "archive", "20240101.tlt", ANGLES[::-1])
    (tmp_path / "work/ts.mrc").symlink_to(path)
    angles_file(tmp_path / "work")
    xf_file(tmp_path / "work", [QUARTER] * 7)
    series = ingest(tmp_path / "work/ts.mrc", tmp_path / "t.zarr")
    assert series.meta.angles_deg == ANGLES
    np.testing.assert_array_equal(series.read(ALL), data.transpose(0, 2, 1)[:, ::-1])


def test_the_command_of_another_stack_with_a_longer_name_is_not_used(tmp_path):
    path, _ = stack(tmp_path)
    angles_file(tmp_path)
    tilt_command(tmp_path, "THICKNESS 40", "EXCLUDELIST 1")
    text = (tmp_path / "tilt.com").read_text().replace("ts_ali", "ts_2_ali")
    (tmp_path / "tilt.com").write_text(text)
    assert ingest(path, tmp_path / "t.zarr").shape == SHAPE


def test_aretomo_and_the_tilt_command_do_not_add_up(tmp_path):
    path, _ = stack(tmp_path)
    aln_file(tmp_path)
    tilt_command(tmp_path, "OFFSET 1.0", "EXCLUDELIST 1")
    series = ingest(path, tmp_path / "t.zarr", thickness=9)
    assert series.meta.angles_deg == tuple(a + 1 for i, a in enumerate(ANGLES) if i != 2)
    assert "ts.aln" in unused(series)["tilt.com"]


def test_an_alignment_of_larger_images_is_scaled_or_refused(tmp_path):
    path, _ = stack(tmp_path)
    aln_file(tmp_path)
    text = (tmp_path / "ts.aln").read_text()
    (tmp_path / "ts.aln").write_text(text.replace("RawSize = 24 20", "RawSize = 48 40"))
    halved = ingest(path, tmp_path / "h.zarr").read(ALL)
    rows = [
        line.replace(" 2.000 ", " 1.000 ").replace(" -1.000 ", " -0.500 ")
        for line in text.split("\n")
    ]
    (tmp_path / "ts.aln").write_text("\n".join(rows))
    np.testing.assert_array_equal(halved, ingest(path, tmp_path / "s.zarr").read(ALL))
    (tmp_path / "ts.aln").write_text(text.replace("RawSize = 24 20", "RawSize = 30 20"))
    with pytest.raises(InputError, match="about images of 20 x 30 pixels"):
        ingest(path, tmp_path / "t.zarr")


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


def test_transforms_beside_single_images_are_not_guessed_at(tmp_path):
    frames = []
    for i, a in enumerate(ANGLES):
        stack(tmp_path, f"f_{i}.mrc", shape=(1, 20, 24), seed=i)
        frames.append(f"[FrameSet = {i}]\nTiltAngle = {a}\nSubFramePath = X:\\day\\f_{i}.mrc\n\n")
    (tmp_path / "ts.mdoc").write_text("PixelSpacing = 12.0\n\n" + "".join(frames))
    xf_file(tmp_path, [QUARTER] * 7)
    with pytest.raises(InputError, match=r"ts\.xf: lies with single images"):
        ingest(tmp_path / "ts.mdoc", tmp_path / "t.zarr")
    assert ingest(tmp_path / "ts.mdoc", tmp_path / "t.zarr", xf="none").shape == SHAPE
    given = ingest(tmp_path / "ts.mdoc", tmp_path / "u.zarr", xf=tmp_path / "ts.xf")
    assert given.shape == (7, 24, 20)


def test_views_beyond_the_stored_images_are_left_out(tmp_path):
    path, _ = stack(tmp_path)
    angles_file(tmp_path)
    far = (1.0, 0.0, 0.0, 1.0, 500.0, 0.0)
    still = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
    xf_file(tmp_path, [still] * 6 + [far])
    series = ingest(path, tmp_path / "t.zarr")
    assert [v.view for v in series.meta.provenance.left_out] == [7]
    xf_file(tmp_path, [far] * 7)
    with pytest.raises(InputError, match="no aligned image shows"):
        ingest(path, tmp_path / "u.zarr")


def test_an_alignment_beside_the_target_of_a_link_is_not_passed_over(tmp_path):
    (tmp_path / "sub").mkdir()
    path, _ = stack(tmp_path)
    xf_file(tmp_path, [QUARTER] * 7)
    link = tmp_path / "sub/ts.mrc"
    link.symlink_to(path)
    angles_file(tmp_path / "sub")
    with pytest.raises(InputError, match=r"ts\.xf: lies beside the target of the link"):
        ingest(link, tmp_path / "t.zarr")
    series = ingest(link, tmp_path / "t.zarr", xf="none")
    assert any("target of the link" in why for why in unused(series).values())


def test_a_column_that_is_given_replaces_what_files_say_of_the_axis(tmp_path):
    path, _ = stack(tmp_path, "ts_ali.mrc")
    angles_file(tmp_path)
    tilt_command(tmp_path, "FULLIMAGE 64 20", "SUBSETSTART 10 0", "OFFSET 0.0 3.0")
    series = ingest(path, tmp_path / "t.zarr", axis_column=14.5)
    assert series.meta.shifts_px == ((0.0, 3.0),) * 7
    assert "--axis-column counts" in unused(series)["the axis by IMOD's command files"]
