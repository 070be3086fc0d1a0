"""Command files of IMOD: the values that other readers find, and IMOD's own rules for options."""

import dataclasses

import etomofiles.imod_utils
import pytest
from cryoet_alignment.io.imod.newst import ImodNEWSTCOM
from cryoet_alignment.io.imod.tilt import ImodTILTCOM

from ddgm_dist.errors import InputError
from ddgm_dist.readers.imod.commands import read_newstack_command, read_tilt_command
from tests.readers.tomography_texts import NEWST_COM, TILT_COM


@pytest.fixture
def tilt(tmp_path):
    def read(text):
        (tmp_path / "tilt.com").write_text(text, newline="")
        return read_tilt_command(tmp_path / "tilt.com")

    return read


@pytest.fixture
def newst(tmp_path):
    def read(text):
        (tmp_path / "newst.com").write_text(text)
        return read_newstack_command(tmp_path / "newst.com")

    return read


def test_tilt_has_the_values_that_other_readers_find(tilt, tmp_path):
    read = tilt(TILT_COM)
    other = ImodTILTCOM.from_file(tmp_path / "tilt.com")
    assert read.input_projections == other.InputProjections == "ts_ali.mrc"
    assert read.output_file == other.OutputFile
    assert read.thickness == other.THICKNESS == 1200
    assert read.image_binned == other.IMAGEBINNED == 4
    assert read.full_image == other.FULLIMAGE == (3838, 3710)
    assert read.subset_start == other.SUBSETSTART == (64, -64)
    assert read.x_axis_tilt_deg == other.XAXISTILT == etomofiles.imod_utils.parse_tilt_com(tmp_path)
    assert (read.shift_x, read.shift_z) == other.SHIFT == (0.0, -12.5)
    assert (read.tilt_file, read.xtilt_file) == (other.TILTFILE, other.XTILTFILE)
    assert set(other.EXCLUDELIST2) == {1, 7, 33, 34, 35}
    # What the others leave out: the second list, both offsets, the logarithm and further files.
    assert read.excluded == (1, 2, 7, 33, 34, 35)
    assert (read.angle_offset_deg, read.axis_offset_px) == (1.25, -3.5)
    assert read.log == 0.0
    assert (read.local_file, read.zfactor_file) == ("tslocal.xf", "ts.zfac")
    assert read.included == read.unknown == read.geometry_not_read == read.angles == ()


def test_newstack_has_the_values_that_another_reader_finds(newst, tmp_path):
    read = newst(NEWST_COM)
    other = ImodNEWSTCOM.from_file(tmp_path / "newst.com")
    assert (read.input_file, read.output_file) == (other.InputFile, other.OutputFile)
    assert read.transform_file == other.TransformFile == "ts.xf"
    assert read.offsets == other.OffsetsInXandY == (2.0, -4.0)
    assert read.images_are_binned == other.ImagesAreBinned == 1
    assert read.bin_by == other.BinByFactor == 4
    assert read.distortion_file is other.DistortionField is None
    assert read.gradient_file is other.GradientFile is None
    assert read.size_out == (928, 960)
    assert read.unknown == read.geometry_not_read == ()


@pytest.mark.parametrize(
    "lines",
    [
        "thickness 300",
        "THICK 300",  # abbreviated
        "THICKNESS = 300",
        "\tTHICKNESS\t300  # unbinned",
        "THICKNESS 200\nTHICKNESS 300",  # the later one
        "THICKNESS 300\nDONE\nTHICKNESS 200",
        "THICKNESS 300\nEndInput\nTHICKNESS 200",
        "# THICKNESS 200\n\nTHICKNESS 300\n#THICKNESS 200",
    ],
)
def test_options_are_read_by_the_rules_of_imod(tilt, lines):
    assert tilt(f"$tilt -StandardInput\n{lines}\n$other\nTHICKNESS 7\n").thickness == 300
    assert tilt(f"THICKNESS 7\n$tilt -StandardInput\r\n{lines}\r\n").thickness == 300


def test_lists_add_up_and_other_options_do_not(tilt):
    read = tilt("$tilt -St\nEXCLUDE 3\nEXCLUDELIST 5 1\nExcludeList2 9-8\nOFFSET 1 2\nOFFSET 3\n")
    assert read.excluded == (1, 3, 5, 8, 9)
    assert (read.angle_offset_deg, read.axis_offset_px) == (3.0, 0.0)
    read = tilt("$tilt\nANGLES -3 0\nANGLES 3,6\nINCLUDE 1-4\n")
    assert (read.angles, read.included) == ((-3.0, 0.0, 3.0, 6.0), (1, 2, 3, 4))


@pytest.mark.parametrize(
    "text",
    [
        "$tilt\nts.ali\nts.rec\nTHICKNESS 300\nMODE 1\nDONE\n",  # as versions before 2007 had it
        "$tilt -StandardInput ts.ali ts.rec\nTHICKNESS 300\n",
        "$tilt -THICKNESS 300 \\\n  ts.ali ts.rec\n",
        "$IMOD_DIR/bin/tilt -input ts.ali -out ts.rec -THICKNESS 300\n",
        "InputProjections ts.ali\nOutputFile ts.rec\nTHICKNESS 300\n",  # no command at all
    ],
)
def test_old_and_other_forms_of_the_command(tilt, text):
    read = tilt(text)
    assert (read.input_projections, read.output_file) == ("ts.ali", "ts.rec")
    assert read.thickness == 300


def test_what_is_not_given_has_the_values_that_imod_takes(tilt, newst):
    read = dataclasses.asdict(tilt("$tilt -StandardInput\nInputProjections a\n"))
    zero = {k for k, v in read.items() if v == 0}
    assert zero == {"angle_offset_deg", "axis_offset_px", "x_axis_tilt_deg", "shift_x", "shift_z"}
    assert read["image_binned"] == 1
    assert read["thickness"] is read["log"] is read["full_image"] is None
    command = newst("$newstack -StandardInput\nInputFile a\nSizeToOutputInXandY /\n")
    assert (command.bin_by, command.offsets, command.size_out) == (1, (0.0, 0.0), None)


def test_newstack_on_its_command_line(newst):
    read = newst(
        "$colornewst -xform M.xf -bin 2 -size 512,400 -linear -origin 'M a.st' M_ali.mrc\n"
    )
    assert (read.input_file, read.output_file) == ("M a.st", "M_ali.mrc")
    assert (read.transform_file, read.bin_by, read.size_out) == ("M.xf", 2, (512, 400))


def test_geometry_that_is_not_read_is_named(tilt, newst, caplog):
    text = "$newstack -StandardInput\nRotateByAngle 90\nsecs 0-5\nModeToOutput 1\nNewOne 3\n"
    read = newst(text)
    assert read.geometry_not_read == ("RotateByAngle", "SectionsToRead")
    assert read.unknown == ("NewOne",)
    assert "not read, since unknown: NewOne" in caplog.text
    assert tilt("$tilt\na\nb\nCOMPRESS 1 2\nREPROJECT 0\n").geometry_not_read == (
        "COMPRESS",
        "REPROJECT",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "does not run IMOD's tilt"),
        ("$newstack -StandardInput\nInputFile a\n", "does not run IMOD's tilt"),
        ("#!/bin/sh\ntilt << EOF\nts.ali\nTHICKNESS 5\nEOF\n", "does not run IMOD's tilt"),
        (
            "$tilt -StandardInput\n$tilt -StandardInput\n",
            r"runs IMOD's tilt 2 times \(lines 1, 2\)",
        ),
        ("$tilt -St\nTHICKNESS\n", "line 2: THICKNESS lacks its value"),
        ("$tilt -St\nTHICKNESS 30x\n", "line 2: THICKNESS is '30x', but '30x' is no number"),
        ("$tilt -St\nTHICKNESS 30.5\n", r"30\.5 is no whole number from 1"),
        ("$tilt -St\nTHICKNESS -30\n", "-30 is no whole number from 1"),
        ("$tilt -St\nTHICKNESS 30 40\n", "2 numbers are given, 1 wanted"),
        ("$tilt -St\nOFFSET 1 2 3\n", "3 numbers are given, 1 to 2 wanted"),
        ("$tilt -St\nOFFSET 1,5,\n", "'' is no number"),
        ("$tilt -St\nXAXISTILT = = 3\n", "two equals signs"),
        ("$tilt -St\nLOG 0\nSUB 1 2\n", "line 3: 'SUB' may be SUBSETSTART or SubtractFromBase"),
        ("$tilt -St\nEXCLUDELIST 1,x\n", "EXCLUDELIST2, line 2 of .*'x' is no view"),
        ("$tilt -St\nEXCLUDELIST 1-100000000\n", "is outside the views"),
        ("$tilt -St\nEXCLUDELIST 1\nINCLUDE 2\n", "both EXCLUDELIST and INCLUDE"),
        ("$tilt -bogus 3 a b\n", "'-bogus' is no option of tilt"),
    ],
)
def test_wrong_command_files_of_tilt_are_refused(tilt, text, says):
    with pytest.raises(InputError, match=says) as error:
        tilt(text)
    assert "tilt.com" in str(error.value)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("InputFile a\nInputFile b", "joins 2 stacks"),
        ("OutputFile a\nOutputFile b", "writes 2 stacks"),
        ("OffsetsInXandY 1 2\nOffsetsInXandY 3 4", "each section has its own"),
        ("OffsetsInXandY 1", "1 numbers are given, 2 wanted"),
        ("BinByFactor 0", "0 is no whole number from 1"),
        ("ImagesAreBinned 0", "must be positive"),
        ("SizeToOutputInXandY ,512", "'' is no number"),
    ],
)
def test_wrong_command_files_of_newstack_are_refused(newst, lines, says):
    with pytest.raises(InputError, match=says):
        newst(f"$newstack -StandardInput\n{lines}\n")


def test_answers_to_the_questions_of_old_programs_are_refused(newst):
    with pytest.raises(InputError, match="answers to its questions"):
        newst("$newstack\n1\nM.st\n/\n1\nM.ali\n")
