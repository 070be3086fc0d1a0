"""Files of transforms: the numbers that other readers find, or a word that says what is wrong."""

import etomofiles
import numpy as np
import pytest
from cryoet_alignment.io.imod import ImodXF
from cryoet_alignment.io.imod.rawtlt import ImodXTILT

from ddgm_dist.errors import InputError
from ddgm_dist.readers.imod.transforms import read_axis_tilts, read_xf
from tests.readers.tomography_texts import transforms, xf, xtilt


def rows(read):
    return np.array([(t.a11, t.a12, t.a21, t.a22, t.dx, t.dy) for t in read])


def test_transforms_are_those_that_other_readers_find(tmp_path):
    (tmp_path / "a.xf").write_text(xf())
    read = rows(read_xf(tmp_path / "a.xf"))
    assert np.array_equal(read, etomofiles.read_xf(tmp_path / "a.xf"))
    assert np.array_equal(read, ImodXF.from_file(tmp_path / "a.xf").numpy())
    assert np.allclose(read, transforms(), atol=5e-4)


def test_axis_tilts_are_those_that_other_readers_find(tmp_path):
    (tmp_path / "a.xtilt").write_text(xtilt())
    read = read_axis_tilts(tmp_path / "a.xtilt")
    assert list(read) == ImodXTILT.from_file(tmp_path / "a.xtilt").angles
    assert np.array_equal(read, etomofiles.read_tlt(tmp_path / "a.xtilt"))
    (tmp_path / "b.xtilt").write_text("0.5 0.25\n\n-1D-1 0")
    assert read_axis_tilts(tmp_path / "b.xtilt") == (0.5, 0.25, -0.1, 0.0)


def test_other_ways_to_write_the_same_transforms(tmp_path):
    wanted = rows([*read_xf_of(tmp_path, "1 0 0 1 -15.5 0.25\n0 1 -1 0 2 3\n")])
    fortran = "1.0D0 0.D+00 0 1.d0 -1.55D+01 +.25\r\n0 1 -1 0 2 3\r\n\r\n"
    for encoding in ("utf-8", "utf-16", "utf-8-sig"):
        assert np.array_equal(rows(read_xf_of(tmp_path, fortran, encoding)), wanted)


def read_xf_of(folder, text, encoding="utf-8"):
    (folder / "a.xf").write_text(text, encoding=encoding, newline="")
    return read_xf(folder / "a.xf")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no transforms"),
        ("\n\n", "holds no transforms"),
        ("1 0 0 1 0 0\n1 0 0 1 0\n", "line 2 holds 5 numbers where six are wanted"),
        ("1 0 0 1 0 0\n\n1 0 0 1 0 0\n", "line 2 holds 0 numbers.*it is empty"),
        ("1 0 0 1 0 0 7 8\n", "line 1 holds 8 numbers.*local alignments"),
        ("3\n3838 3710 41 1 1.35 0\n1 0 0 1 0 0\n", r"warping file of IMOD \(version 3\)"),
        ("1,0 0,0 0,0 1,0 0,5 0,5\n", "line 1, '1,0' is no number"),
        ("1 0 0 1 0 nan\n", "line 1, 'nan' is no number"),
        ("1 0 0 1 0 0\n0 0 0 0 5 5\n", "line 2 has determinant 0"),
        ("1 0 0 1 0 1e999\n", "line 1, '1e999' is too large"),
        ("1 0 0 1 0 0.25\n1 0 0 1 0 1.25\n1 0 0 1 0 2.2", "cut short"),
    ],
)
def test_what_is_no_file_of_transforms_is_refused(tmp_path, text, says):
    with pytest.raises(InputError, match=rf"transforms = .*a\.xf: .*{says}"):
        read_xf_of(tmp_path, text)


def test_what_is_no_list_of_axis_tilts_is_refused(tmp_path):
    for text, says in (("", "holds no tilts"), ("0.1\n0,2\n", "line 2, '0,2' is no number")):
        (tmp_path / "a.xtilt").write_text(text)
        with pytest.raises(InputError, match=f"axis tilts = .*{says}"):
            read_axis_tilts(tmp_path / "a.xtilt")
    with pytest.raises(InputError, match=r"axis tilts = .*No such file"):
        read_axis_tilts(tmp_path / "none.xtilt")
