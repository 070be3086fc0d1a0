"""Images are aligned by IMOD's transforms and the newstack command that belongs to them."""

import numpy as np
import pytest

from ddgm_dist.acquisition.ingest import ingest
from ddgm_dist.errors import InputError
from tests.acquisition.series_files import (
    QUARTER,
    angles_file,
    stack,
    xf_file,
)

ALL = slice(None)


def test_a_shift_by_whole_pixels_moves_them_and_leaves_the_rest_unmeasured(tmp_path):
    path, data = stack(tmp_path)
    angles_file(tmp_path)
    xf_file(tmp_path, [(1.0, 0.0, 0.0, 1.0, 3.0, -2.0)] * 7)
    series = ingest(path, tmp_path / "t.zarr")
    read = series.read(ALL)
    np.testing.assert_array_equal(read[:, :-2, 3:], data[:, 2:, :-3])
    assert np.isnan(read[:, -2:]).all()
    assert np.isnan(read[:, :, :3]).all()
    # Nothing need be said of them to reconstruct.
    assert series.meta.bad_pixels == "unmeasured"


@pytest.mark.parametrize("count", [6, 8])
def test_transforms_of_another_stack_are_refused(tmp_path, count):
    path, _ = stack(tmp_path)
    angles_file(tmp_path)
    xf_file(tmp_path, [QUARTER] * count)
    with pytest.raises(InputError, match=rf"ts\.xf: has {count} transforms for 7 views.*--xf none"):
        ingest(path, tmp_path / "t.zarr")


def test_a_transform_that_mirrors_is_refused(tmp_path):
    path, _ = stack(tmp_path)
    angles_file(tmp_path)
    xf_file(tmp_path, [QUARTER] * 6 + [(1.0, 0.0, 0.0, -1.0, 0.0, 0.0)])
    with pytest.raises(InputError, match="mirrors view 7"):
        ingest(path, tmp_path / "t.zarr")


def test_the_size_of_the_aligned_images(tmp_path):
    path, _ = stack(tmp_path)
    angles_file(tmp_path)
    xf_file(tmp_path, [(1.0, 0.0, 0.0, 1.0, 0.0, 0.0)] * 7)
    (tmp_path / "newst.com").write_text(
        "$newstack -StandardInput\nInputFile ts.mrc\nOutputFile ts_ali.mrc\nTransformFile ts.xf\n"
        "SizeToOutputInXandY 5,9\nBinByFactor 2\n"
    )
    assert ingest(path, tmp_path / "t.zarr").shape == (7, 18, 10)
