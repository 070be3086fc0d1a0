"""Names of files as SerialEM and IMOD on another computer write them."""

from __future__ import annotations

import pytest

from ddgm_dist.acquisition.ingest import ingest
from ddgm_dist.acquisition.sources import open_source
from ddgm_dist.acquisition.written_names import FolderNames, name_of, same_name
from ddgm_dist.errors import InputError
from tests.acquisition.series_files import (
    angles_file,
    facts,
    mdoc_file,
    stack,
    tilt_command,
    unused,
    xf_file,
)

SHIFTED = (1.0, 0.0, 0.0, 1.0, 3.0, -2.0)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("ts.mrc", "ts.mrc"),
        (" ts.mrc ", "ts.mrc"),
        ('"ts.mrc"', "ts.mrc"),
        ("'ts.mrc'", "ts.mrc"),
        (r"C:\data\my series.mrc", "my series.mrc"),
        (r'"C:\data\my series.mrc"', "my series.mrc"),
        ("/data/it's.mrc", "it's.mrc"),
        ('ts.mrc"', "ts.mrc"),  # what is left of a path in quotes
        ("", ""),
        ("'", "'"),
    ],
)
def test_folders_and_quotes_are_no_part_of_a_name(written, name):
    assert name_of(written) == name


def test_names_in_a_folder(tmp_path):
    for name in ("a.tlt", "A.xf", "B.xf", "b.XF", ".C.xf"):
        (tmp_path / name).write_text("")
    folder = FolderNames(tmp_path)
    assert folder.find("a.tlt") == folder.find("A.TLT") == tmp_path / "a.tlt"
    assert folder.find("A.TLT", exact=True) is None
    assert folder.find(".C.xf") is None
    assert folder.find("b.XF") == tmp_path / "b.XF"
    with pytest.raises(InputError, match=r"B\.xf and b\.XF"):
        folder.find("b.xf")
    assert same_name("Ts", "tS")
    assert not same_name("Ts", "tS", exact=True)


def named_in_tilt(folder, name, *lines):
    """A ``tilt.com`` about a stack of some name."""
    tilt_command(folder, "THICKNESS 30", *lines)
    text = (folder / "tilt.com").read_text().replace("ts_ali.mrc", name)
    (folder / "tilt.com").write_text(text)


@pytest.mark.parametrize(
    "name", ["TS_ALI.mrc", '"ts_ali.mrc"', r'"D:\em data\Ts_ali.mrc"', "'ts.st'"]
)
def test_a_tilt_command_of_this_stack_is_used(tmp_path, name):
    path, _ = stack(tmp_path)
    angles_file(tmp_path, "TS.TLT")
    named_in_tilt(tmp_path, name, 'TILTFILE "ts.tlt"', "EXCLUDELIST 2")
    series = ingest(path, tmp_path / "t.zarr")
    assert series.meta.thickness_px == 30
    assert len(series.meta.angles_deg) == 6
    assert facts(series)["tilt angles"][1] == "TS.TLT"
    assert "is not here" not in str(series.meta.provenance.warnings)


@pytest.mark.parametrize("name", ["TS2_ali.mrc", "'other.st'", "TSX_ali.mrc"])
def test_one_of_another_stack_is_not_used(tmp_path, name):
    path, _ = stack(tmp_path)
    angles_file(tmp_path)
    named_in_tilt(tmp_path, name)
    series = ingest(path, tmp_path / "t.zarr")
    assert series.meta.thickness_px is None
    assert "it is about" in unused(series)["tilt.com"]


def test_one_of_a_stack_whose_name_differs_in_case_is_not_used(tmp_path):
    path, _ = stack(tmp_path)
    stack(tmp_path, "TS.mrc")
    angles_file(tmp_path)
    named_in_tilt(tmp_path, "TS_ali.mrc")
    assert "it is about" in unused(ingest(path, tmp_path / "t.zarr"))["tilt.com"]


@pytest.mark.parametrize("name", ["TS.xf", '"ts.xf"', r"C:\data\Ts.XF"])
def test_a_newstack_command_of_these_transforms_is_used(tmp_path, name):
    path, _ = stack(tmp_path)
    angles_file(tmp_path)
    xf_file(tmp_path, [SHIFTED] * 7)
    (tmp_path / "newst.com").write_text(
        f"$newstack -StandardInput\nInputFile TS.mrc\nOutputFile ts_ali.mrc\nTransformFile {name}\n"
        "SizeToOutputInXandY 16,12\n"
    )
    series = ingest(path, tmp_path / "t.zarr")
    assert series.shape == (7, 12, 16)
    assert facts(series)["aligned images"] == ("12 x 16", "the newstack command")


def test_an_mdoc_names_its_stack_in_another_case_and_in_quotes(tmp_path):
    stack(tmp_path, "Series 1.mrc")
    mdoc_file(tmp_path, "x.mdoc")
    text = (tmp_path / "x.mdoc").read_text()
    (tmp_path / "x.mdoc").write_text(text.replace("ts.mrc", r'"X:\d\SERIES 1.mrc"'))
    assert open_source(tmp_path / "x.mdoc").files[0].name == "Series 1.mrc"
    # The stack of its own name goes before one that differs from what is written in it.
    stack(tmp_path, "x.mrc", seed=1)
    assert open_source(tmp_path / "x.mdoc").files[0].name == "x.mrc"


def test_an_mdoc_names_its_frames_in_another_case_and_in_quotes(tmp_path):
    angles = (-20.0, 0.0, 20.0)
    for i in range(3):
        stack(tmp_path, f"Frame{i}.mrc", shape=(1, 8, 8), seed=i)
    sections = "".join(
        f'[ZValue = {i}]\nTiltAngle = {a}\nSubFramePath = "X:\\f\\frame{i}.MRC"\n\n'
        for i, a in enumerate(angles)
    )
    (tmp_path / "ts.mdoc").write_text(f"PixelSpacing = 12.0\n\n{sections}")
    source = open_source(tmp_path / "ts.mdoc")
    assert [file.name for file in source.images] == ["Frame0.mrc", "Frame1.mrc", "Frame2.mrc"]
