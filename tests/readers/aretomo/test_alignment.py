"""AreTomo's alignments: the values that other readers find, and which stored view each row means."""

import random

import alnfile
import numpy as np
import pytest
from alnfile.data_model import AlnData
from cryoet_alignment.io.aretomo3.aln import AreTomo3ALN

from ddgm_dist.errors import InputError
from ddgm_dist.readers.aretomo.alignment import read_aln
from tests.readers.tomography_texts import aln

TILTS = [-60.0, -40.0, -20.0, 0.0, 20.0, 40.0, 60.0]


@pytest.fixture
def read(tmp_path):
    def read_text(text):
        (tmp_path / "ts.aln").write_text(text)
        return read_aln(tmp_path / "ts.aln")

    return read_text


def some_dark(base, dark=(0, 5)):
    """A sorted stack with dark frames; ``base`` is that of its sections."""
    kept = [i for i in range(len(TILTS)) if i not in dark]
    frames = [(i, i + base, TILTS[i]) for i in dark]
    return [i + base for i in kept], [TILTS[i] for i in kept], frames


def test_values_are_those_that_other_readers_find(read, tmp_path):
    ours = read(aln(*some_dark(1), patches=2))
    theirs = AreTomo3ALN.from_file(tmp_path / "ts.aln")
    frame = alnfile.read(tmp_path / "ts.aln")
    assert ours.raw_size == theirs.RawSize == (3838, 3710, 7)
    assert ours.angle_offset_deg == theirs.AlphaOffset == -1.5
    assert ours.beta_offset_deg == theirs.BetaOffset == 0.25
    assert ours.thickness == theirs.Thickness == 870
    assert [(d.frame, d.section, d.tilt_deg) for d in ours.dark_frames] == [
        (d.section_idx, d.val2, d.angle) for d in AlnData.from_file(tmp_path / "ts.aln").DarkFrames
    ]
    rows = [
        (v.section, v.rotation_deg, v.magnification, v.tx, v.ty, v.tilt_deg) for v in ours.views
    ]
    assert np.array_equal(rows, frame[["sec", "rot", "gmag", "tx", "ty", "tilt"]].to_numpy())
    assert np.array_equal(rows, theirs.get_global_alignments()[:, [0, 1, 2, 3, 4, 9]])
    assert ours.local


def test_transforms_are_those_that_alnfile_writes(read, tmp_path):
    ours = [view.transform() for view in read(aln(*some_dark(1))).views]
    theirs = alnfile.df_to_xf(alnfile.read(tmp_path / "ts.aln"))
    matrices = [[[a.a11, a.a12, a.dx], [a.a21, a.a22, a.dy]] for a in ours]
    assert np.allclose(matrices, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("dark", [(), (0,), (0, 5), (3,), (5, 6), (0, 1, 2)])
def test_sections_of_the_stack_from_zero_and_from_one(read, base, dark):
    ours = read(aln(*some_dark(base, dark), version=2 + base))
    assert [d.stored_index for d in ours.dark_frames] == list(dark)
    assert [TILTS[v.stored_index] for v in ours.views] == [v.tilt_deg for v in ours.views]
    assert not ours.local


@pytest.mark.parametrize("second", [0, 1])
@pytest.mark.parametrize("dark", [(0,), (2, 5), (3,), (5,), (6,), (0, 1, 2), (5, 6), (4, 5)])
def test_sections_of_the_images_that_remain(read, dark, second):
    """Early versions of AreTomo 3 number them from 0; the dark frames have indices of the stack."""
    _, kept, frames = some_dark(second, dark)
    ours = read(aln(list(range(len(kept))), kept, frames))
    assert [d.stored_index for d in ours.dark_frames] == list(dark)
    assert [TILTS[v.stored_index] for v in ours.views] == kept


def test_views_of_a_stack_are_in_stored_order_without_the_dark_ones(read):
    ours = read(aln(*some_dark(1, (0, 5))))
    views = ours.by_stack(7)
    assert [view and view.tilt_deg for view in views] == [None, *TILTS[1:5], None, TILTS[6]]
    with pytest.raises(InputError, match=r"aligns a stack of 7 images, dark ones included; .* 5"):
        ours.by_stack(5)


def test_an_unsorted_stack_of_a_dose_symmetric_series(read):
    """AreTomo 1 and 2 sort views by angle, and number them as they are stored."""
    stored = [0.0, 20.0, -20.0, 40.0, -40.0, 60.0, -60.0]
    order = sorted(range(7), key=stored.__getitem__)
    dark = [(order.index(5), 5, 60.0)]
    kept = [i for i in order if i != 5]
    ours = read(aln(kept, [stored[i] for i in kept], dark, version=2))
    assert [stored[v.stored_index] for v in ours.views] == [v.tilt_deg for v in ours.views]
    assert [(d.stored_index, d.tilt_deg) for d in ours.dark_frames] == [(5, 60.0)]


def test_what_the_file_does_not_say_is_left_open(read):
    text = aln([1, 2, 3], [-1.0, 0.0, 1.0]).replace("# RawSize", "# Rawsize")
    for name in ("AlphaOffset", "BetaOffset", "Thickness", "NumPatches"):
        text = "\n".join(line for line in text.split("\n") if name not in line)
    ours = read("Hello\n# a comment\n" + text.split("\n", 1)[1])
    assert ours.raw_size is ours.thickness is None
    assert (ours.angle_offset_deg, ours.beta_offset_deg, ours.local) == (0.0, 0.0, False)
    assert [v.stored_index for v in ours.views] == [0, 1, 2]


GOOD = aln(*some_dark(1), patches=2)
ROW = GOOD.split("\n")[9]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no aligned views"),
        ("1 2 3\n", "line 1 comes before the names of the columns"),
        (GOOD.replace(ROW + "\n", ""), "4 views and 2 dark frames of a stack of 7: it is cut"),
        (GOOD.replace("RawSize = 3838 3710 7", "RawSize = 3838 3710 8"), "of a stack of 8"),
        (GOOD.replace("RawSize = 3838 3710 7", "RawSize = 3838 3710"), "line 2 holds 2 numbers, 3"),
        (GOOD.replace("RawSize = 3838", "RawSize = 0"), "line 2 gives a size that is not positive"),
        (
            GOOD.replace(ROW, ROW.replace("1.00000", "1.02000")),
            "magnification 1.02; AreTomo writes",
        ),
        (GOOD.replace(ROW, ROW + " 5"), "line 10 holds 11 numbers, 10 are wanted"),
        (GOOD.replace(ROW, ROW.replace("    2 ", "  2.5 ", 1)), "line 10 '2.5' is no whole number"),
        (GOOD.replace(ROW, ROW.replace("    2 ", "    3 ", 1)), "fit no numbering of the 7 views"),
        (GOOD.replace("=     5    6", "=     5    3"), "fit no numbering of the 7 views"),
        (GOOD.replace("AlphaOffset =    -1.50", "AlphaOffset = -1,50"), "'-1,50' is no number"),
        (GOOD.replace("# BetaOffset", "# AlphaOffset"), "gives AlphaOffset another value"),
        (GOOD.rsplit("\n", 2)[0] + "\n", r"9 rows of local alignment, not 2 for each of 5 views"),
        (aln([1, 2, 3, 4], [0.0, 1.0, 2.0, 3.0])[:-2], "cut short: its last number, '3.0'"),
    ],
)
def test_wrong_files_are_refused(read, text, says):
    assert text != GOOD
    with pytest.raises(InputError, match=rf"aln = .*{says}"):
        read(text)


def test_rows_in_any_order_mean_the_same_views(read):
    lines = aln(*some_dark(1)).split("\n")
    rows = lines[9:14]
    random.Random(3).shuffle(rows)
    ours = read("\n".join([*lines[:9], *rows, ""]))
    assert [TILTS[v.stored_index] for v in ours.views] == [v.tilt_deg for v in ours.views]
    assert [v.stored_index for v in ours.views] != sorted(v.stored_index for v in ours.views)
