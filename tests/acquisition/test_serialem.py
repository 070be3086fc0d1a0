"""From a microscope's files to a volume by two commands with their defaults, right and not mirrored."""

import numpy as np
import pytest

import ddgm_dist as dd
from tests.acquisition.serialem import (
    DETECTOR,
    THICKNESS,
    WIDTH,
    phantom_projections,
    write_serialem,
)

ROWS = slice(60, 68)


@pytest.fixture(scope="module")
def phantom():
    return phantom_projections(WIDTH)


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
    if axis_deg == 84.0:
        dd.ingest(recorded.stack, tmp_path / "whole.zarr")
    result = dd.reconstruct(tmp_path / "t.zarr", tmp_path / "v.zarr", engine="local")
    assert result.fit.explained
    volume, truth = np.asarray(result.volume().to_dask()), recorded.truth[:, ROWS]
    assert volume.shape == truth.shape
    right = correlation(volume, truth)
    assert right >= 0.78
    for mirrored in (volume[::-1], volume[:, :, ::-1], volume[:, ::-1]):
        assert correlation(mirrored, truth) < right - 0.15
    check = dd.check(tmp_path / "whole.zarr") if axis_deg == 84.0 else None
    assert check is None or check.is_good, check


@pytest.mark.slow
def test_without_the_files_beside_it_a_stack_is_warned_of(tmp_path, phantom, caplog):
    recorded = write_serialem(tmp_path, *phantom, 84.0, companions=False)
    options = {"angles": recorded.order, "thickness": THICKNESS}
    dd.ingest(recorded.stack, tmp_path / "whole.zarr", **options)
    assert "these look like counts" in caplog.text
    check = dd.check(tmp_path / "whole.zarr")
    assert any("values look like counts" in line for line in check.findings)
    assert any("--tilt-axis-angle 8" in line for line in check.findings)
    dd.ingest(recorded.stack, tmp_path / "t.zarr", rows=ROWS, **options)
    caplog.clear()
    result = dd.reconstruct(tmp_path / "t.zarr", tmp_path / "v.zarr", engine="local")
    assert not result.fit.explained
    assert "data NOT explained" in caplog.text
