"""Angles that the names of images state."""

from pathlib import Path

import pytest

from ddgm_dist.errors import InputError
from ddgm_dist.readers.images.names import angles_in_names, list_images


def files(*stems):
    return [Path("folder") / f"{stem}.tif" for stem in stems]


@pytest.mark.parametrize(
    ("stems", "angles"),
    [
        (["s_-60", "s_0", "s_+60"], (-60, 0, 60)),
        (["ts_001_-60.0", "ts_002_-57.0", "ts_003_3.0"], (-60, -57, 3)),
        (["P1_001_0.00_20240101_235959", "P1_002_-3.00_20240102_000130"], None),
        (["P1_001_0.0_20240101_235959", "P1_002_-9.0_20240102_000130"], (0, -9)),
        (["a_[0.00]_001", "a_[3.00]_002", "a_[-3.00]_003"], (0, 3, -3)),
        (["0.0", "7.5", "15.0"], (0, 7.5, 15)),
        (["t-60", "t-3", "t12"], (-60, -3, 12)),
        (["-60", "-57.5", "-55"], (-60, -57.5, -55)),
        # Counts, versions, dates, too steep, too close together, twice, and two that might be.
        (["001", "002", "009"], None),
        (["s-01", "s-02", "s-10"], None),
        (["+0", "+1", "+2", "+3", "+4", "+5"], None),
        (["a1.0", "a2.0", "a3.0", "a4.0", "a5.0", "a6.0"], None),
        (["v1.9", "v1.10", "v9.9"], None),
        (["a_-95.0", "a_0.0"], None),
        (["a_-2.0", "a_0.0", "a_+2.0"], None),
        (["a_-60_1", "a_-60_2", "a_+60_3"], None),
        (["a_-60_+3", "a_+60_-5"], None),
        (["a_1.5_2.5", "a_9.5_8.5"], None),
        (["a_-60", "b_+60"], None),
        (["a_-60"], None),
        ([], None),
    ],
)
def test_angles_are_read_where_nothing_else_is_meant(stems, angles):
    assert angles_in_names(files(*stems)) == angles


def test_a_folder_of_two_kinds_is_refused_and_mrc_counts_where_nothing_else_is(tmp_path):
    for name in ("b_-3.mrc", "b_+3.mrc", "._b_-3.mrc", ".DS_Store"):
        (tmp_path / name).touch()
    assert [f.name for f in list_images(tmp_path)] == ["b_-3.mrc", "b_+3.mrc"]
    (tmp_path / "a.tif").touch()
    assert [f.name for f in list_images(tmp_path)] == ["a.tif"]
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match="holds 1 PNG and 1 TIFF files"):
        list_images(tmp_path)


def test_frames_of_a_detector_are_refused_by_name(tmp_path):
    (tmp_path / "x_2.eer").touch()
    (tmp_path / "x_1.eer").touch()
    with pytest.raises(InputError, match=r"EER format, such as x_1.eer; sum or motion-correct"):
        list_images(tmp_path)
