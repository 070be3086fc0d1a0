"""What is text, what is a number, and what was cut short."""

import pytest

from ddgm_dist.errors import InputError
from ddgm_dist.readers.text import check_whole, number, read_text, whole_number


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"])
def test_any_encoding_and_any_line_end_give_the_same_text(tmp_path, encoding, end):
    (tmp_path / "a").write_bytes(end.join(["1 µm", "", "2", ""]).encode(encoding))
    assert read_text(tmp_path / "a", "table") == "1 µm\n\n2\n"


def test_names_in_windows_western_encoding_are_read_where_asked_for(tmp_path):
    (tmp_path / "a").write_bytes("Universität\x1a".encode("cp1252"))
    assert read_text(tmp_path / "a", "table", western=True) == "Universität"
    with pytest.raises(InputError, match=r"table = .*is not a readable text file"):
        read_text(tmp_path / "a", "table")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"1\n2\x00", "no text, or UTF-16 without a byte order mark"),
        ("1\n".encode("utf-16-le"), "no text, or UTF-16"),
        (b"1\n2\x0b3\n", r"line 2 holds the control character '\\x0b'"),
        (b"1\n2\xc2\x853\n", "line 2 holds the control character"),
        (b"\xff\xfe1", "truncated"),
        (b"\xff\xfe\0\0", "no text"),
    ],
)
def test_what_is_no_text_is_refused_with_its_line(tmp_path, raw, says):
    (tmp_path / "a").write_bytes(raw)
    with pytest.raises(InputError, match=says):
        read_text(tmp_path / "a", "table", western=True)


def test_missing_and_huge_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"No such file.*; try this"):
        read_text(tmp_path / "a", "table", hint="try this")
    with (tmp_path / "b").open("wb") as file:
        file.truncate(2**27)
    with pytest.raises(InputError, match="has 134217728 bytes"):
        read_text(tmp_path / "b", "table")
    with pytest.raises(InputError, match="is not a readable text file"):
        read_text(tmp_path, "table")


@pytest.mark.parametrize(
    ("word", "value"), [("1", 1), ("-.5", -0.5), ("+2.", 2), ("1.5D+01", 15), ("-2e-1", -0.2)]
)
def test_numbers_of_fortran_and_c_are_read(word, value):
    assert number(word) == value


@pytest.mark.parametrize(
    "word",
    ["", "1_0", "nan", "inf", "1e999", "0x1", "1,5", "--1", "1.2.3", "1d", "\uff11", "***", " 1"],
)
def test_what_is_no_finite_number_is_refused(word):
    with pytest.raises(ValueError, match="is"):
        number(word)


def test_whole_numbers_have_neither_point_nor_too_many_digits():
    assert whole_number("-012") == -12
    for word in ("1.0", "", "1e2", "9" * 19, "²"):
        with pytest.raises(ValueError, match="no whole number"):
            whole_number(word)


def test_a_last_number_with_fewer_digits_and_no_line_end_is_a_cut_one(tmp_path):
    rows = [["1.25", "3.50"], ["2.25", "4.50"], ["3.25", "5.5"]]
    with pytest.raises(InputError, match=r"table = .*cut short: its last number, '5\.5'"):
        check_whole("... 5.5", rows, "table", tmp_path)
    check_whole("... 5.5\n", rows, "table", tmp_path)  # it was written so
    check_whole("... 5.5", rows[1:], "table", tmp_path)  # two lines say nothing
    check_whole("... 5.5", [["1", "2.125"], *rows], "table", tmp_path)  # digits differ anyway
    check_whole("... 5.5 # so", rows, "table", tmp_path)
