"""SerialEM's metadata: the values that mdocfile finds, and what it does not look at."""

import logging

import mdocfile
import pytest

from ddgm_dist.errors import InputError
from ddgm_dist.readers.serialem.mdoc import read_mdoc
from tests.readers.tomography_texts import ANGLES, VIEWS, mdoc, mdoc_section


@pytest.fixture
def read(tmp_path):
    def read_text(text):
        (tmp_path / "ts.mrc.mdoc").write_bytes(text.encode() if isinstance(text, str) else text)
        return read_mdoc(tmp_path / "ts.mrc.mdoc")

    return read_text


def test_values_are_those_that_mdocfile_finds(read, tmp_path):
    ours = read(mdoc())
    theirs = mdocfile.read(tmp_path / "ts.mrc.mdoc")
    assert ours.pixel_size_nm == pytest.approx(theirs.PixelSpacing[0] / 10)
    assert ours.voltage_kv == theirs.Voltage[0] == 300
    assert ours.image_file == str(theirs.ImageFile[0])
    assert ours.image_size == theirs.ImageSize[0]
    for section, (_, row) in zip(ours.sections, theirs.iterrows(), strict=True):
        assert section.z_value == row.ZValue
        assert section.tilt_deg == row.TiltAngle
        assert section.exposure_dose == row.ExposureDose
        assert section.prior_dose == row.PriorRecordDose
        assert section.exposure_time == row.ExposureTime
        assert section.binning == row.Binning
        assert section.rotation_deg == row.RotationAngle
        assert section.mean == row.MinMaxMean[2]
        assert section.sub_frame_path == str(row.SubFramePath)
        assert section.sub_frame_name == row.SubFramePath.name
        assert section.counts_per_electron == float(row.CountsPerElectron)


def test_the_axis_and_the_rotation_are_kept_apart(read):
    ours = read(mdoc())
    assert (ours.tilt_axis_deg, ours.tilt_axis_from) == (84.1, "Tilt axis angle")
    assert (ours.rotation_deg, ours.binning) == (174.1, 1)
    assert read(mdoc(title="no axis here")).tilt_axis_deg is None


@pytest.mark.parametrize(
    ("title", "axis"),
    [
        ("    Tilt axis angle = -96.1, binning = 1  spot = 8  camera = 0 bidir = 0.0", -96.1),
        ("Tilt axis angle = 84", 84.0),
        ("TILT AXIS ANGLE = 84.1", 84.1),
        # Thermo Fisher's, whose meaning follows from the RotationAngle, 174.1, as in IMOD's header.
        ("    TiltAxisAngle = 84.1  Binning = 1  SpotSize = 7", 84.1),
        ("TiltAxisAngle = -84.1", 84.1),
        ("Tomography 5: TiltAxisAngle = 95.9, Defocus = -3", 174.1),
        ("TiltAxisAngle = 12.5", 12.5),
    ],
)
def test_both_spellings_of_the_axis(read, title, axis, caplog):
    assert read(mdoc(title=title)).tilt_axis_deg == pytest.approx(axis)
    assert ("agree in no known way" in caplog.text) == (axis == 12.5)


def test_the_axis_as_an_entry_and_without_a_rotation(read):
    text = mdoc(title="").replace("RotationAngle = 174.1\n", "")
    assert read("TiltAxisAngle = -84.1\n" + text).tilt_axis_deg == -84.1
    assert read("TiltAxisAngle = -84.1\n" + text).rotation_deg is None
    assert read(mdoc() + "\n[T = TiltAxisAngle = 84.1]\n").tilt_axis_deg == 84.1


def test_any_order_of_entries_and_sections_gives_the_same_stack(read):
    sections = []
    for i in (3, 0, 6, 5, 1, 2, 4):
        head, *entries = mdoc_section(i).strip().split("\n")
        sections.append("\n".join([head, *sorted(entries, reverse=True)]))
    head = mdoc(0).strip()
    shuffled = read(head + "\n\n" + "\n".join(sections) + "\n")
    assert shuffled.by_stack(VIEWS) == read(mdoc()).by_stack(VIEWS)
    assert [s.z_value for s in shuffled.sections] == [3, 0, 6, 5, 1, 2, 4]
    stored = [round(s.tilt_deg - 0.01, 6) for s in shuffled.by_stack(VIEWS)]
    assert stored == ANGLES


def test_images_without_a_section_and_entries_that_are_missing_are_none(read):
    text = mdoc(0) + mdoc_section(2) + "[ZValue = 0]\nTiltAngle = 3\n\nExposureDose = NaN\n"
    first, second, third, fourth = read(text).by_stack(4)
    assert second is fourth is None
    assert third == read(mdoc()).sections[2]
    assert first.tilt_deg == 3
    assert first.exposure_dose is first.mean is first.sub_frame_path is first.binning is None
    assert read(text).rotation_deg is None
    assert read("PixelSpacing = 0\n[ZValue = 0]\n").pixel_size_nm is None


def test_what_all_sections_agree_on_stands_for_a_global_entry(read):
    ours = read(mdoc(title="").split("\n", 1)[1])
    assert (ours.pixel_size_nm, ours.binning) == (pytest.approx(0.135), 1)
    ours = read(
        with_line("\nPixelSpacing", "\nPixelSize").replace("PixelSpacing = 1.35", "A = 0", 1)
    )
    assert ours.pixel_size_nm is None


def test_numbers_from_one_are_understood_with_a_warning(read, caplog):
    text = mdoc(0) + "".join(mdoc_section(i) for i in (1, 2, 3))
    with caplog.at_level(logging.WARNING):
        assert [s.z_value for s in read(text).by_stack(3)] == [1, 2, 3]
    assert "count from 1" in caplog.text
    assert [s and s.z_value for s in read(text).by_stack(4)] == [None, 1, 2, 3]


@pytest.mark.parametrize(
    "path",
    [r"X:\frames\ts_001.tif", "/data/frames/ts_001.tif", r"\\server\x/ts_001.tif", "ts_001.tif"],
)
def test_frames_are_named_without_their_folders(read, path):
    (section,) = read(f"[FrameSet = 0]\nSubFramePath = {path}\nTiltAngle = 3\n").sections
    assert (section.z_value, section.sub_frame_path) == (None, path)
    assert section.sub_frame_name == "ts_001.tif"


def test_image_series_name_their_images(read):
    ours = read("ImageSeries = 1\n\n[Image = a 1.tif]\nTiltAngle = 3\n\n[Image = b.tif]\n")
    assert [s.image for s in ours.sections] == ["a 1.tif", "b.tif"]
    with pytest.raises(InputError, match="sections without ZValue"):
        ours.by_stack(2)


def test_what_windows_programs_write_is_read(read):
    ours = read(
        mdoc().replace("\n", "\r\n").replace("a microscope", "Universität").encode("cp1252")
    )
    assert (
        ours.sections == read("\ufeff" + mdoc()).sections == read(mdoc().encode("utf-16")).sections
    )
    assert "Universität" in ours.titles[0]
    assert len(read(mdoc().replace("Defocus", "# a comment\nDefocus")).sections) == VIEWS
    assert len(read(mdoc().replace("Defocus", "Note = one\nand two\nDefocus")).sections) == VIEWS


def with_line(old, new):
    return mdoc().replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no entries"),
        ("DataMode 1\n", "line 1, 'DataMode 1', is neither an entry"),
        (mdoc() + mdoc_section(2), r"two sections have ZValue 2, from lines \d+ and \d+"),
        (mdoc() + "[MontSection = 0]\nTiltAngle = 0\n", "is of a montage"),
        ("Montage = 1\n" + mdoc(), "is of a montage"),
        (mdoc() + "[Item = 3]\n", r"sections \[Item = ...\] are unknown"),
        (with_line("[ZValue = 2]", "[ZValue = 2"), "is no head of a section"),
        (with_line("[ZValue = 2]", "[ZValue = two]"), "'two' is no whole number"),
        (
            with_line("TiltAngle = 3.01", "TiltAngle = 3,01"),
            "TiltAngle is '3,01', but '3,01' is no",
        ),
        (with_line("TiltAngle = 3.01", "TiltAngle - 3.01"), "neither an entry"),
        (with_line("TiltAngle = 3.01", "TiltAngle = 3\nTiltAngle = 4"), "TiltAngle is '3' in line"),
        (with_line("-12 4096 ", "4096 "), "it holds 2 numbers, 3 are wanted"),
        (with_line("3838 3710", "3838.5 3710"), "no whole number"),
        (with_line("PixelSpacing = 1.35", "PixelSpacing = -1"), "cannot be negative"),
        (mdoc(title="Tilt axis angle = 84,1, binning = 1"), "the tilt axis as '84,1'"),
        (mdoc(title="Tilt axis angle = steep"), "the tilt axis as 'steep'"),
        (mdoc(title="Tilt axis angle = 84]\n[T = Tilt axis angle = -96"), "angles -96, 84"),
        (mdoc()[: mdoc().rindex("Angle = ") + 10], "is cut short: its last section.*lacks"),
    ],
)
def test_wrong_files_are_refused(read, text, says):
    with pytest.raises(InputError, match=rf"(?s)mdoc = .*{says}"):
        read(text)


def test_a_stack_with_fewer_images_is_refused(read):
    with pytest.raises(InputError, match=r"image 5 \(ZValue\) of a stack of 5 images, 0 to 4"):
        read(mdoc()).by_stack(5)
    with pytest.raises(InputError, match=r"image -1 \(ZValue\)"):
        read("[ZValue = -1]\n").by_stack(5)
