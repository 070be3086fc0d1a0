"""Measured series: well aligned ones are quiet, and the shifts of a raw one are found."""

import numpy as np
import pytest

from ddgm_dist.alignment.judge import judge
from ddgm_dist.alignment.small_views import SmallViews
from ddgm_dist.tilts.metadata import TiltSeriesMeta


def judged(images, angles):
    return judge(
        SmallViews(np.asarray(images, dtype=float), 1), TiltSeriesMeta(tuple(map(float, angles)))
    )


@pytest.fixture(scope="module")
def whole_needle(shared_data):
    with np.load(shared_data / "tilt_haadf_needle" / "haadf_needle.npz") as data:
        return {key: data[key] for key in data.files}


def test_an_aligned_needle_is_quiet(whole_needle):
    views = whole_needle["aligned"].transpose(0, 2, 1)
    found = judged(views[::2, 64:192], whole_needle["angles_deg"][::2])
    assert found.is_good
    # The offset that the sample's notice states.
    assert found.axis_offset_px == pytest.approx(0.6, abs=0.15)


def test_the_shifts_of_a_raw_needle_are_found(whole_needle):
    views = whole_needle["raw"].transpose(0, 2, 1).astype(float) - 860
    found = judged(views[:, 64:192], whole_needle["angles_deg"])
    assert found.shifts_found
    # The source's alignment moves views back, by (u, y).
    stated = -whole_needle["shifts_yx_px"][:, ::-1]
    across = np.array(found.shifts_px)[:, 0] - stated[:, 0]
    assert float(np.std(across)) < 1


def test_a_capillary_s_axis_is_found(shared_data):
    with np.load(shared_data / "xray_tilt" / "capillary_24737.npz") as data:
        counts, angles = data["projections"].astype(float), data["angles_deg"].astype(float) - 90
    counts[:, 0, 0] = counts[:, 0, 1]
    lines = -np.log(counts / np.median(counts[:, :, :10], axis=(1, 2))[:, None, None])
    used = np.abs(angles) <= 60
    middle = judged(lines[used][:, :, 12:], angles[used])
    assert middle.is_good
    assert middle.axis_offset_px == pytest.approx(0.5, abs=0.5)
