"""Which files beside a stack belong to it, by the names that microscopes and programs give."""

import pytest

from ddgm_dist.acquisition.companions import find_companions, stack_of_folder
from ddgm_dist.errors import InputError


def touched(folder, *names):
    for name in names:
        (folder / name).write_text("")
    return folder


def test_the_files_of_a_raw_stack(tmp_path):
    names = ("ts.tlt", "ts.rawtlt", "ts.xf", "ts.xtilt", "ts.st.mdoc", "tilt.com", "newst.com")
    touched(tmp_path, "ts.st", *names, "other.tlt")
    found = find_companions(tmp_path / "ts.st")
    assert (found.base, found.aligned, found.prealigned) == ("ts", False, False)
    here = (found.tlt, found.rawtlt, found.xf, found.xtilt, found.mdoc)
    assert [path.name for path in here] == list(names[:5])
    assert (found.tilt_command.name, found.newstack_command.name) == names[5:]
    assert found.aln is None


@pytest.mark.parametrize("name", ["ts.mrc.mdoc", "ts.mdoc", "ts.st.mdoc"])
def test_the_names_of_an_mdoc(tmp_path, name):
    touched(tmp_path, name)
    assert find_companions(tmp_path / "ts.mrc").mdoc == tmp_path / name


@pytest.mark.parametrize("name", ["ts_ali.mrc", "ts.ali"])
def test_an_aligned_stack_has_the_files_of_its_raw_one(tmp_path, name):
    touched(tmp_path, name, "ts.tlt", "ts.xf")
    found = find_companions(tmp_path / name)
    assert found.aligned
    assert found.tlt == tmp_path / "ts.tlt"
    assert found.xf == tmp_path / "ts.xf"


def test_each_axis_of_two_has_commands_of_its_own(tmp_path):
    touched(tmp_path, "cella.st", "cellb.st", "tilta.com", "tiltb.com", "newsta.com")
    found = find_companions(tmp_path / "cellb.st")
    assert found.tilt_command.name == "tiltb.com"
    assert found.newstack_command is None


def test_the_stack_of_a_folder(tmp_path):
    assert stack_of_folder(touched(tmp_path, "a.mrc")) is None  # a folder of images
    touched(tmp_path, "tilt.com", "a_ali.mrc", "a_full_rec.mrc", "a_bin4.mrc", "._a.mrc")
    assert stack_of_folder(tmp_path) == tmp_path / "a.mrc"
    touched(tmp_path, "b.st")
    with pytest.raises(InputError, match=r"2 stacks: a\.mrc, b\.st"):
        stack_of_folder(tmp_path)
    touched(tmp_path, "b.edf")
    assert stack_of_folder(tmp_path) == tmp_path / "b.st"


def test_case_does_not_matter_as_on_windows(tmp_path):
    names = ("TS.TLT", "Ts.xf", "TS.MRC.MDOC", "TILT.COM")
    touched(tmp_path, "ts.mrc", *names)
    found = find_companions(tmp_path / "ts.mrc")
    here = (found.tlt, found.xf, found.mdoc, found.tilt_command)
    assert [path.name for path in here] == list(names)
    assert not found.case_matters
    touched(tmp_path, "ts.tlt")  # exactly so goes first
    assert find_companions(tmp_path / "ts.mrc").tlt == tmp_path / "ts.tlt"
    assert find_companions(tmp_path / "TS_ALI.MRC").aligned
    assert find_companions(tmp_path / "TS_ALI.MRC").base == "TS"


def test_files_of_a_stack_whose_name_differs_in_case_are_not_taken(tmp_path):
    touched(tmp_path, "ts.mrc", "TS.mrc", "TS.xf", "ts.tlt", "tilt.com")
    small, large = (find_companions(tmp_path / name) for name in ("ts.mrc", "TS.mrc"))
    assert small.case_matters
    assert large.case_matters
    assert (small.xf, large.xf) == (None, tmp_path / "TS.xf")
    assert (small.tlt, large.tlt) == (tmp_path / "ts.tlt", None)
    assert small.tilt_command == large.tilt_command == tmp_path / "tilt.com"


@pytest.mark.parametrize("suffix", [".st", ".mrc", ".map", ".ali", ".rec", ".tif", ".TIFF", ".npy"])
@pytest.mark.parametrize("mine", [".mrc", ".tif", ".npy"])
def test_case_counts_beside_a_stack_of_any_format(tmp_path, mine, suffix):
    touched(tmp_path, f"ts{mine}", f"TS{suffix}", "TS.xf", "TS.tlt", "TS.aln", f"TS{mine}.mdoc")
    found = find_companions(tmp_path / f"ts{mine}")
    assert found.case_matters
    assert found.files == []
    assert find_companions(tmp_path / f"TS{suffix}").xf == tmp_path / "TS.xf"


@pytest.mark.parametrize("aligned", ["TS_ali.mrc", "TS_preali.st", "TS.ali", "TS.preali"])
def test_files_of_an_aligned_stack_whose_name_differs_in_case_are_not_taken(tmp_path, aligned):
    touched(tmp_path, "ts.mrc", aligned, "TS.xf")
    assert find_companions(tmp_path / "ts.mrc").xf is None
    assert find_companions(tmp_path / aligned).xf == tmp_path / "TS.xf"


def test_an_aligned_stack_of_the_very_name_is_no_other_series(tmp_path):
    touched(tmp_path, "ts.mrc", "ts_ali.mrc", "TS_rec.mrc", "TS.xf")
    assert find_companions(tmp_path / "ts.mrc").xf == tmp_path / "TS.xf"


def test_two_files_that_differ_in_case_only_are_refused(tmp_path):
    touched(tmp_path, "ts.mrc", "TS.xf", "Ts.xf")
    with pytest.raises(InputError, match=r"ts\.xf.*TS\.xf and Ts\.xf are"):
        find_companions(tmp_path / "ts.mrc")
