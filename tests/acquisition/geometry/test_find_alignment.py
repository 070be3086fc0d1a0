"""Nothing beside a stack that changes its geometry is passed over in silence."""

import numpy as np
import pytest

from ddgm_dist.acquisition.ingest import ingest
from ddgm_dist.errors import InputError
from tests.acquisition.series_files import (
    ANGLES,
    QUARTER,
    SHAPE,
    angles_file,
    facts,
    mdoc_file,
    stack,
    unused,
    xf_file,
)

ALL = slice(None)


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
