"""``check`` on stores: it reads them once, changes nothing unless told, and then for the better."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import zarr

import ddgm_dist as dd
from ddgm_dist.alignment.small_views import read_small_views
from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.samples import sample_path
from ddgm_dist.simulation.phantom import TissuePhantom
from ddgm_dist.simulation.projector import project
from ddgm_dist.tilts.metadata import TiltSeriesMeta
from ddgm_dist.tilts.series import open_tilt_series, write_tilt_series
from ddgm_dist.tilts.survey import verify
from tests.alignment.misaligned import ANGLES, plant

DEPTH, ROWS, WIDTH = 32, 72, 128


@pytest.fixture(scope="module")
def tissue():
    wide = 2 * WIDTH + 2 * 60
    phantom = TissuePhantom((DEPTH, ROWS, wide))
    volume = (phantom.read(Box((0, 0, 0), (DEPTH, ROWS, wide))) / 255).astype(np.float32)
    inner = (wide - WIDTH) // 2
    return volume[:, :, inner : inner + WIDTH], project(volume / DEPTH, ANGLES, n_u=WIDTH)


def written(place, planted, rows=slice(None)):
    return write_tilt_series(place, planted.images[:, rows].astype(np.float32), planted.meta)


def attribute(place):
    return zarr.open_group(str(place), mode="r").attrs.asdict()["ddgm_dist"]


def test_apply_alone_writes_and_a_second_time_changes_nothing(tmp_path, tissue):
    place = tmp_path / "t.zarr"
    planted = plant(tissue[1], size=(ROWS, 120), shift=6, offset=5, noise=0.05)
    written(place, planted)
    before = attribute(place)
    found = dd.check(place)
    assert not found.is_good
    assert not found.applied
    assert attribute(place) == before
    assert dd.check(place, apply=True).applied
    series, after = open_tilt_series(place), attribute(place)
    assert series.meta.provenance.facts[-1].origin == "check --apply"
    assert series.meta.shifts_px != planted.meta.shifts_px
    verify(series)
    again = dd.check(place, apply=True)
    assert again.is_good
    assert not again.applied
    assert attribute(place) == after


def test_angles_are_written_too(tmp_path, tissue):
    place = tmp_path / "t.zarr"
    planted = plant(tissue[1], size=(ROWS, 120))
    write_tilt_series(
        place,
        planted.images.astype(np.float32),
        replace(planted.meta, angles_deg=tuple((ANGLES - 6).tolist())),
    )
    assert dd.check(place, apply=True).angle_offset_deg == pytest.approx(6, abs=0.5)
    series = open_tilt_series(place)
    np.testing.assert_allclose(series.meta.angles_deg, ANGLES, atol=0.5)
    assert series.meta.shifts_px is None
    assert dd.check(place).is_good


def test_what_cannot_be_mended_is_not_applied(tmp_path, tissue):
    place = tmp_path / "t.zarr"
    planted = plant(np.exp(-5 * tissue[1]), size=(8, 120))
    written(place, planted)
    before = attribute(place)
    with pytest.raises(InputError, match="--counts auto"):
        dd.check(place, apply=True)
    assert attribute(place) == before


def test_the_sample_is_quiet(tmp_path):
    with np.load(sample_path("needle")) as data:
        angles, shifts = data["angles_deg"], np.broadcast_to(data["shifts_px"], (77, 2))
        meta = TiltSeriesMeta(tuple(angles.tolist()), tuple(map(tuple, shifts.tolist())))
        pixels = data["projections"].astype(np.float32) - data["dark_level"]
    write_tilt_series(tmp_path / "t.zarr", pixels, meta)
    found = dd.check(tmp_path / "t.zarr")
    assert found.is_good
    assert found.shifts_px is None  # 32 rows are too few


def test_blocks_are_means_and_centred(tmp_path, monkeypatch):
    monkeypatch.setattr("ddgm_dist.alignment.small_views._EDGE", 10)
    monkeypatch.setattr("ddgm_dist.alignment.small_views._BLOCK_BYTES", 1)
    pixels = np.random.default_rng(0).standard_normal((5, 26, 51)).astype(np.float32)
    pixels[1, 1:5, 1:5] = np.nan
    pixels[2, 9, 9] = np.nan
    planted = plant(pixels[:, :4, :4], size=(26, 51), angles=ANGLES[:5])
    planted.images = pixels
    shares = []
    small = read_small_views(written(tmp_path / "t.zarr", planted), report=shares.append)
    assert small.block == 4
    assert small.images.shape == (5, 6, 12)
    inner = pixels[:, 1:25, 1:49].reshape(5, 6, 4, 12, 4).astype(float)
    with np.errstate(invalid="ignore"):
        means = np.nansum(inner, axis=(2, 4)) / np.isfinite(inner).sum(axis=(2, 4))
    np.testing.assert_allclose(small.images, means, rtol=1e-6)
    assert np.isnan(small.images).sum() == 1
    assert shares[-1] == 1
    assert shares == sorted(shares)


@pytest.mark.slow
def test_a_mended_series_is_reconstructed_better(tmp_path, tissue):
    volume, projections = tissue
    planted = plant(projections, size=(ROWS, WIDTH), shift=5, noise=0.05)
    written(tmp_path / "t.zarr", planted)
    dd.check(tmp_path / "t.zarr", apply=True)
    shifts = open_tilt_series(tmp_path / "t.zarr").meta.shifts_px
    found = []
    for name, meta in (
        ("as it was", planted.meta),
        ("mended", replace(planted.meta, shifts_px=shifts)),
    ):
        store, rows = tmp_path / f"{name}.zarr", slice(32, 40)
        write_tilt_series(store, planted.images[:, rows].astype(np.float32), meta)
        out = tmp_path / f"{name} volume.zarr"
        result = dd.reconstruct(store, out, {"N": 12}, engine="local")
        seen = np.asarray(result.volume().to_dask())[:, :, 16:-16]
        truth = volume[:, rows][:, :, 16:-16]
        found.append(_correlation(seen, truth))
    assert found[1] > found[0] + 0.1


def _correlation(seen, truth):
    """Correlation at the best shift of the whole volume, which no series can tell."""
    return max(
        float(np.corrcoef(np.roll(seen, by, (0, 1, 2)).ravel(), truth.ravel())[0, 1])
        for by in itertools.product(range(-2, 3), range(-1, 2), range(-3, 4))
    )
