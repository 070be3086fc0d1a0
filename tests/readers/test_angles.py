"""Tables of tilt angles, and what angles cannot be."""

import numpy as np
import pytest

from ddgm_dist.errors import InputError
from ddgm_dist.readers.angles import as_angles, check_angles, read_angles


@pytest.mark.parametrize(
    "text",
    [
        "-60\n0.5\n60\n",
        "\ufeff -60.00 \r\n  0.5\r\n 60\r\n",
        "# tilts\n-60, 0.5, 60",
        "-60 0.5 6e1",
    ],
)
def test_angles_as_text(tmp_path, text):
    (tmp_path / "a.tlt").write_text(text, encoding="utf-8")
    assert read_angles(tmp_path / "a.tlt") == (-60.0, 0.5, 60.0)


def test_angles_as_npy(tmp_path):
    np.save(tmp_path / "a.npy", np.array([-60, 0.5, 60]))
    assert read_angles(tmp_path / "a.npy") == (-60.0, 0.5, 60.0)
    np.save(tmp_path / "b.npy", np.zeros((2, 2)))
    with pytest.raises(InputError, match="list of numbers"):
        read_angles(tmp_path / "b.npy")


def test_bad_angle_files(tmp_path):
    with pytest.raises(InputError, match="angles = "):
        read_angles(tmp_path / "none.tlt")
    (tmp_path / "a.tlt").write_text("1\ntwo\n")
    with pytest.raises(InputError, match="two"):
        read_angles(tmp_path / "a.tlt")
    (tmp_path / "b.tlt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="angles = "):
        read_angles(tmp_path / "b.tlt")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        # A decimal comma on each line, with half as many lines as views.
        (
            "-50,5\n-40,5\n",
            r"line 1 of 2 holds 2 numbers, '-50,5': is that a decimal comma\?.*-50\.5",
        ),
        ("-50\n-40,5\n", r"line 2 of 2 holds 2 numbers"),
        ("-50,5 -40,5 -30,5", "both commas and spaces"),
        ("0 -60.0\n1 -58.0\n", "line 1 of 2 holds 2 numbers.*more than one column"),
        ("-60;3\n-58;4\n", "more than one column"),
        ("name,tilt\n-60,3\n-58,4\n", "line 1 of 3 holds 2 numbers"),
        # As many numbers on every line, in no order: a table, or a list that looks like one.
        ("0 3 -3 6\n-6 9 -9 12\n", "line 1 of 2 holds 4 numbers"),
        ("-60\n-58 1\n-56 1\n", "line 2 of 3 holds 2 numbers"),
        ("-60, -58\n-56, -54\n", "line 1 of 2 holds 2 numbers"),
        ("-60 -58\n-56 -5O\n", "line 1 of 2 holds 2 numbers"),
        # One angle, or two.
        (
            "-50,5",
            r"one angle with a decimal comma, or two angles\?.*-50\.5 for one, -50 5 for two",
        ),
        ("# tilts\n-60,60\n", "line 2 is '-60,60'"),
        ("-1_0\n0\n", "'-1_0' in line 1 is no number"),
        ("-20 -1_0", "'-1_0' in line 1 is no number"),
        ("-20 -1_0\n0 10\n", "line 1 of 2 holds 2 numbers"),
        ("-60\n58 degrees\n", "line 2 of 2"),
        ("-60\n-5O\n", "'-5O' in line 2 is no number"),
    ],
)
def test_more_than_one_number_on_a_line_is_refused_with_its_place(tmp_path, text, says):
    (tmp_path / "a.tlt").write_text(text)
    with pytest.raises(InputError, match=says) as error:
        read_angles(tmp_path / "a.tlt")
    assert str(tmp_path / "a.tlt") in str(error.value)


@pytest.mark.parametrize(
    ("text", "angles"),
    [
        ("-60 -58 -56\n-54 -52\n", (-60, -58, -56, -54, -52)),
        ("-60 -58 -56\n-54 -52 -50\n", (-60, -58, -56, -54, -52, -50)),  # rising: no table
        ("60 58\n56 54\n52\n", (60, 58, 56, 54, 52)),
        ("0 3 -3 6 # first\n\n-6 9 -9 12\n-12\n", (0, 3, -3, 6, -6, 9, -9, 12, -12)),
        ("0.00 3.00 -3.00\n 6.00 -6.00\n 9.0D0 -9.00\n12.00", (0, 3, -3, 6, -6, 9, -9, 12)),
        ("-50, 5", (-50, 5)),
        ("-50 5", (-50, 5)),
        ("-50,5,55", (-50, 5, 55)),
        ("0\n3\n-3\n", (0, 3, -3)),
        ("5\n5\n", (5, 5)),
    ],
)
def test_lists_that_are_wrapped_at_their_spaces(tmp_path, text, angles):
    (tmp_path / "a.tlt").write_text(text)
    assert read_angles(tmp_path / "a.tlt") == angles


def test_angles_as_other_programs_write_them(tmp_path):
    text = "-60.5D+00\r\n+0.5d0\r\n 6e1,\r\n"
    for name, encoding in (("a", "utf-8"), ("b", "utf-16"), ("c", "utf-8-sig")):
        (tmp_path / f"{name}.tlt").write_text(text, encoding=encoding)
        assert read_angles(tmp_path / f"{name}.tlt") == (-60.5, 0.5, 60.0)
    (tmp_path / "d.tlt").write_text(text, encoding="utf-16-le")
    with pytest.raises(InputError, match="UTF-16 without a byte order mark"):
        read_angles(tmp_path / "d.tlt")
    (tmp_path / "e.csv").write_text("tilt angle\n-60\n0.5\n")
    assert read_angles(tmp_path / "e.csv") == (-60.0, 0.5)


@pytest.mark.parametrize(
    "values", [[["-60"]], ["-60", "0"], [[-60, 0], [1, 2]], [[-60], [0, 1]], 5.0, [True, False]]
)
def test_what_is_no_list_of_numbers_is_refused(values):
    with pytest.raises(InputError, match="must be a list of numbers"):
        as_angles(values, "angles")


def test_angles_that_no_tilt_series_has_are_refused():
    with pytest.raises(InputError, match=r"all 3 angles are -6e-08 degrees, within 0\.01"):
        check_angles([-6e-8, 0.0, 6e-8], "a.tlt")
    with pytest.raises(InputError, match="all 3 angles are 12 degrees"):
        check_angles([12.0] * 3, "a.tlt")
    with pytest.raises(InputError, match="radians"):
        check_angles(np.deg2rad(np.arange(-60.0, 61.0, 3.0)).tolist(), "a.tlt")
    with pytest.raises(InputError, match="radians"):
        check_angles(np.deg2rad(np.arange(0.0, 70.0, 2.0)).tolist(), "a.tlt")
    for turn in (180.0, 360.0):
        with pytest.raises(InputError, match="these are radians.*multiply by 57"):
            check_angles(np.deg2rad(np.linspace(0.0, turn, 91)).tolist(), "a.tlt")


@pytest.mark.parametrize(
    "angles",
    [
        [0.0],
        [],
        [-1.0, 0.0, 1.0],
        list(range(-60, 61, 3)),
        [0.0, 3.0, -3.0, 6.0, -6.0],
        [0.5, 0.1, float("nan")],
        [-2.0, -1.0, 0.0, 1.0, 2.0],
        [-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0],
    ],
)
def test_angles_of_a_tilt_series_pass(angles, caplog):
    check_angles(angles, "a.tlt")
    assert not caplog.text


def test_repeated_views_are_named_and_allowed(caplog):
    check_angles([-3.0, 0.0, 3.0, 0.0, -3.0], "a.tlt")
    assert "a.tlt: tilts 1 and 3 have the same angle, 0 degrees, and so do 1 others" in caplog.text


def test_a_list_whose_last_angle_lost_digits_is_refused(tmp_path):
    (tmp_path / "a.tlt").write_text("-60.00\n-57.00\n-54.00\n-5")
    with pytest.raises(InputError, match="angles = .*cut short: its last number, '-5'"):
        read_angles(tmp_path / "a.tlt")
    (tmp_path / "a.tlt").write_text("-60.25,\n-57.25,\n-54.25,\n-51.25")
    assert read_angles(tmp_path / "a.tlt") == (-60.25, -57.25, -54.25, -51.25)
    (tmp_path / "a.tlt").write_bytes(b"-60\x0b57\n")
    with pytest.raises(InputError, match="control character"):
        read_angles(tmp_path / "a.tlt")
