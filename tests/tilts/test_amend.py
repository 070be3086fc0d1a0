"""Changing the geometry of a finished series: its pixels, their record and all else stay."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.records.lease import Lease
from ddgm_dist.tilts.amend import amend_series
from ddgm_dist.tilts.provenance import Provenance
from ddgm_dist.tilts.series import TiltSeriesMeta, open_tilt_series, write_tilt_series
from ddgm_dist.tilts.survey import verify

META = TiltSeriesMeta((-10.0, 0.0, 10.0), thickness_px=4, sigma_y=(1.0, 2.0, 3.0), description="a")
SHIFTS = ((0.5, 1.0), (0.0, -2.0), (0.25, 0.0))


def made(place):
    pixels = np.random.default_rng(0).standard_normal((3, 16, 40)).astype(np.float32)
    return write_tilt_series(place, pixels, META)


def attribute(place):
    return zarr.open_group(str(place), mode="r").attrs.asdict()


def files(folder: Path):
    return {
        p.relative_to(folder): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name not in ("zarr.json", "lease.json", "lock")
    }


def test_only_the_geometry_changes(tmp_path):
    place = tmp_path / "t.zarr"
    series = made(place)
    group = zarr.open_group(str(place), mode="r+")
    group.attrs["of another"] = {"program": 1}
    group.attrs["ddgm_dist"] = {**group.attrs["ddgm_dist"], "note": "kept"}
    before, pixels = attribute(place), files(place)
    record = Provenance()
    record.say("geometry added", "some", "check --apply")
    meta = replace(META, angles_deg=(-9.0, 1.0, 11.0), shifts_px=SHIFTS, provenance=record)
    amend_series(series, replace(meta, description="is not taken", thickness_px=9))
    again = open_tilt_series(place)
    assert again.meta == meta
    assert again.identity == series.identity
    assert again.fingerprint() != series.fingerprint()
    after = attribute(place)
    for key in ("angles_deg", "shifts_px", "provenance"):
        before["ddgm_dist"].pop(key, None)
        del after["ddgm_dist"][key]
    assert after == before
    assert files(place) == pixels
    assert again.record is not None
    verify(again)


def test_an_object_store(bucket):
    series = made(f"{bucket}/t.zarr")
    amend_series(series, replace(META, shifts_px=SHIFTS))
    again = open_tilt_series(f"{bucket}/t.zarr")
    assert again.meta.shifts_px == SHIFTS
    verify(again)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError()])
def test_interrupted_it_leaves_the_old_attribute(tmp_path, monkeypatch, error):
    place = tmp_path / "t.zarr"
    series, before = made(place), attribute(place)

    def fails(*args):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fails)
        patch.setattr("pathlib.Path.replace", fails)
        with pytest.raises((StorageError, RuntimeError)):
            amend_series(series, replace(META, shifts_px=SHIFTS))
    assert attribute(place) == before
    assert open_tilt_series(place).meta == META


def test_what_cannot_be_is_refused(tmp_path):
    place = tmp_path / "t.zarr"
    series, before = made(place), attribute(place)
    with pytest.raises(InputError, match="below 85 degrees"):
        amend_series(series, replace(META, angles_deg=(0.0, 1.0, 86.0)))
    with Lease(place), pytest.raises(InputError, match=r"t\.zarr"):
        amend_series(series, replace(META, shifts_px=SHIFTS))
    assert attribute(place) == before
    write_tilt_series(place, np.zeros((3, 8, 8), np.float32), META, overwrite=True)
    with pytest.raises(InputError, match="replaced"):
        amend_series(series, replace(META, shifts_px=SHIFTS))


def test_consolidated_metadata_change_too(tmp_path):
    place = tmp_path / "t.zarr"
    group = zarr.create_group(str(place), zarr_format=2)
    group.create_array("projections", data=np.zeros((3, 4, 8), np.float32))
    group.attrs["ddgm_dist"] = {"kind": "tilt-series", "version": 1, "angles_deg": [-5, 0, 5]}
    zarr.consolidate_metadata(str(place))
    series = open_tilt_series(place)
    amend_series(series, replace(series.meta, shifts_px=SHIFTS))
    assert open_tilt_series(place).meta.shifts_px == SHIFTS
