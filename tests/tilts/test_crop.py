"""Blocks of a tilt series: each a tilt series of its own, with the same specimen in it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.pixels.screen import Screen
from ddgm_dist.tilts.crop import Place, default_columns, read_crop, spread_places
from ddgm_dist.tilts.series import TiltSeriesMeta, open_tilt_series, write_tilt_series

ANGLES = (-50.0, -20.0, 0.0, 35.0, 60.0)
SHIFTS = ((0.0, 0.4), (0.0, -1.3), (0.0, 0.0), (0.0, 2.6), (0.0, -0.7))
GEOMETRY = Geometry(ANGLES, thickness=16, rows=3, field=400, shifts_px=SHIFTS)
UNIT = Intensity(0.0, 1.0, 0.0)
Z, X = 3.0, 250.5  # from the slab's middle; in columns of the field


def landing(geometry: Geometry, x: float, tilt: int) -> float:
    """Detector column of the point (Z, x), by the definition of the geometry."""
    angle, c = geometry.angles[tilt], (geometry.field - 1) / 2
    return (x - c) * math.cos(angle) + Z * math.sin(angle) + geometry.shift(tilt)[1] + c


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory):
    u = np.arange(GEOMETRY.field)
    spots = [np.exp(-0.5 * ((u - landing(GEOMETRY, X, t)) / 2) ** 2) for t in range(5)]
    data = np.stack([np.stack([(1 + y) * s for y in range(3)]) for s in spots])
    path = tmp_path_factory.mktemp("cutout") / "tilts.zarr"
    write_tilt_series(path, data.astype(np.float32), TiltSeriesMeta(ANGLES, SHIFTS))
    return open_tilt_series(path)


@pytest.mark.parametrize("middle", [199.5, 240.0, 260.75])
def test_a_point_lands_where_the_geometry_of_the_block_says(series, middle: float) -> None:
    block = read_crop(series, GEOMETRY, UNIT, Place(1, 2, middle, 128))
    assert block.projections.shape == (5, 2, 128)
    assert (block.geometry.rows, block.geometry.field) == (2, 128)
    u = torch.arange(128.0)
    for tilt in range(5):
        spot = block.projections[tilt]
        found = float((spot[0] * u).sum() / spot[0].sum())
        assert found == pytest.approx(landing(block.geometry, X - middle + 127 / 2, tilt), abs=1e-3)
        assert float(spot[1].max() / spot[0].max()) == pytest.approx(1.5, rel=1e-5)


def test_the_whole_field_is_what_was_recorded(series) -> None:
    block = read_crop(series, GEOMETRY, UNIT, Place(0, 3, 399 / 2, 400))
    assert block.geometry == GEOMETRY
    assert torch.equal(
        block.projections, torch.from_numpy(series.read_lines(slice(0, 3), (0,) * 5, 400))
    )
    some = block.subset((3, 1))
    assert some.geometry.angles_deg == (35.0, -20.0)
    assert some.geometry.shifts_px == (SHIFTS[3], SHIFTS[1])
    assert torch.equal(some.projections[0], block.projections[3])


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (4, 2), (7, 5)])
def test_places_lie_in_the_field_and_spread(count: int, rows: int) -> None:
    wide = replace(GEOMETRY, rows=60, field=3000, shifts_px=())
    places = spread_places(wide, count, rows, seed=3)
    columns = default_columns(wide)
    assert places == spread_places(wide, count, rows, seed=3)
    assert places != spread_places(wide, count, rows, seed=4)
    for place in places:
        assert 0 <= place.row <= 60 - place.rows
        assert (place.rows, place.columns) == (rows, columns)
        first = place.middle - (columns - 1) / 2
        assert first == int(first)
        assert 0 <= first <= 3000 - columns
    strata = {int(p.row / (60 - rows + 1) * count) for p in places}
    assert len(strata) == count


def test_a_narrow_field_and_an_isolated_specimen_are_taken_whole() -> None:
    (place,) = spread_places(replace(GEOMETRY, field=90), 1, 9, seed=0)
    assert place == Place(0, 3, 89 / 2, 90)
    assert default_columns(replace(GEOMETRY, field=5000, boundary="vacuum")) == 5000


def test_what_is_masked_in_the_series_is_in_the_block(series) -> None:
    masked = Screen(patches=((3, 4, 0, 3, 0, 400),))
    block = read_crop(series, GEOMETRY, UNIT, Place(0, 2, 399 / 2, 128), masked)
    assert block.valid is not None
    assert bool((block.valid[3] == 0).all())
    assert bool((block.valid[[0, 1, 2, 4]] == 1).all())
