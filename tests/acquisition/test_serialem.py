"""From a microscope's files to a volume by two commands with their defaults, right and not mirrored."""

import numpy as np
import pytest

import ddgm_dist as dd
from tests.acquisition.serialem import DETECTOR, WIDTH, phantom_projections, write_serialem

ROWS = slice(60, 68)


@pytest.fixture(scope="module")
def phantom():
    return phantom_projections(slice(0, WIDTH))


def reconstructed(tilts, out):
    return np.asarray(dd.reconstruct(tilts, out, engine="local").volume().to_dask())


def correlation(volume, truth):
    return float(np.corrcoef(volume.ravel(), truth.ravel())[0, 1])


@pytest.mark.slow
@pytest.mark.parametrize("axis_deg", [84.0, -96.0, 4.0])
def test_two_commands_give_the_specimen(tmp_path, phantom, axis_deg):
    recorded = write_serialem(tmp_path, *phantom, axis_deg)
    series = dd.ingest(recorded.stack, tmp_path / "t.zarr", rows=ROWS)
    record = series.meta.provenance
    assert series.shape == (39, 8, DETECTOR)
    assert [view.view for view in record.left_out] == sorted(recorded.bad)
    assert "blank" in record.left_out[0].why
    assert "saturated" in record.left_out[1].why
    volume = reconstructed(tmp_path / "t.zarr", tmp_path / "v.zarr")
    truth = recorded.truth[:, ROWS]
    assert volume.shape == truth.shape
    assert correlation(volume, truth) >= 0.78
    for mirrored in (volume[::-1], volume[:, :, ::-1], volume[:, ::-1]):
        assert correlation(mirrored, truth) < 0.5
