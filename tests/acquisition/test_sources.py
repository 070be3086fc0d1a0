"""A source is found by the folder that it lies in."""

from ddgm_dist.acquisition.ingest import ingest
from tests.acquisition.series_files import (
    angles_file,
    stack,
    tilt_command,
)


def test_a_folder_that_etomo_works_in(tmp_path):
    stack(tmp_path)
    angles_file(tmp_path)
    tilt_command(tmp_path, "THICKNESS 40")
    series = ingest(tmp_path, tmp_path.with_name(f"{tmp_path.name}.zarr"))
    assert series.meta.thickness_px == 40
