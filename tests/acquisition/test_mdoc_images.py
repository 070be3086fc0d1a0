"""A SerialEM metadata file as the source: the stack or the images that it describes."""

import numpy as np
import pytest

from ddgm_dist.acquisition.ingest import ingest
from ddgm_dist.errors import InputError
from tests.acquisition.series_files import (
    ANGLES,
    SHAPE,
    mdoc_file,
    stack,
)

ALL = slice(None)


def test_a_stack_is_described_by_its_mdoc_as_the_source(tmp_path):
    stack(tmp_path)
    mdoc_file(tmp_path, axis=0.0, order=(3, 4, 2, 5, 1, 6, 0))
    series = ingest(tmp_path / "ts.mrc.mdoc", tmp_path / "t.zarr")
    assert series.meta.angles_deg == ANGLES  # by ZValue, whatever the order of the sections
    assert series.shape == SHAPE


def test_frames_are_found_by_their_base_names_beside_the_mdoc(tmp_path):
    frames = []
    for i, a in enumerate(ANGLES):
        stack(tmp_path, f"f_{i}.mrc", shape=(1, 20, 24), seed=i)
        frames.append(f"[FrameSet = {i}]\nTiltAngle = {a}\nSubFramePath = X:\\day\\f_{i}.mrc\n\n")
    text = "PixelSpacing = 12.0\n\n[T = Tilt axis angle = 0.0, binning = 1]\n\n" + "".join(frames)
    (tmp_path / "ts.mdoc").write_text(text.replace("\n", "\r\n"))
    series = ingest(tmp_path / "ts.mdoc", tmp_path / "t.zarr")
    assert series.meta.angles_deg == ANGLES
    assert series.meta.pixel_size_nm == 1.2
    expected = np.random.default_rng(3).integers(100, 30000, size=(1, 20, 24))
    np.testing.assert_array_equal(series.read(ALL)[3], expected[0])
    (tmp_path / "f_4.mrc").unlink()
    with pytest.raises(InputError, match=r"names 7 images, of which 1 are not beside it: f_4\.mrc"):
        ingest(tmp_path / "ts.mdoc", tmp_path / "u.zarr")
