"""Posing the problem: what is estimated, what is taken as given, what is refused."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from scipy.ndimage import gaussian_filter

from ddgm_dist.acquisition.ingest import ingest
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.errors import InputError
from ddgm_dist.planning.config import Config
from ddgm_dist.planning.problem import Problem
from ddgm_dist.prior.weights import shipped_weights
from ddgm_dist.runs.build_problem import build_problem
from ddgm_dist.simulation.phantom import TissuePhantom
from ddgm_dist.simulation.projector import project
from ddgm_dist.simulation.simulate import simulate
from ddgm_dist.tilts.provenance import Provenance
from ddgm_dist.tilts.sampled_rows import _sample_columns
from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series
from tests.small_runs import forget_record

ANGLES = tuple(range(-50, 51, 20))


def noisy_data(rows: int = 6, field: int = 40) -> np.ndarray:
    """Not projections of anything, but with contrast at all frequencies."""
    noise = np.random.default_rng(0).standard_normal((len(ANGLES), rows, field))
    smooth = np.cumsum(noise, axis=2)
    return (1000 + 30 * smooth + noise).astype(np.float32)


@pytest.fixture
def tilts(tmp_path: Path) -> Path:
    return write(tmp_path)


@pytest.fixture(autouse=True)
def _same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A denoiser that takes no time to load."""
    (tmp_path / "same_denoiser.py").write_text("def same(x, sigma):\n    return x\n")
    monkeypatch.syspath_prepend(tmp_path)


def write(folder: Path, data: np.ndarray | None = None, **meta: Any) -> Path:
    path = folder / "tilts.zarr"
    known = TiltSeriesMeta(ANGLES, **{"thickness_px": 12, **meta})
    write_tilt_series(path, noisy_data() if data is None else data, known, overwrite=True)
    return path


def built(path: Path, **keys: Any) -> Problem:
    keys = {"denoiser": "same_denoiser:same", **keys}
    return build_problem(path, Config(**keys).problem()).problem


def refused(path: Path, **keys: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        built(path, **keys)
    assert "\n" not in str(caught.value)
    return caught.value


def test_the_same_problem_is_found_twice(tilts: Path) -> None:
    first = built(tilts)
    assert built(tilts) == first
    assert built(tilts, tile_rows=4).digest() == first.digest()
    assert first.geometry.thickness == 12
    assert (first.geometry.rows, first.geometry.field) == (6, 40)
    assert len(first.schedule) == first.config.N


def test_what_is_given_is_taken(tilts: Path) -> None:
    given = {"mean": 90.0, "std": 25.0, "sigma_y": 2.0}
    estimated = built(tilts).intensity
    assert built(tilts, **given).intensity == Intensity(**given)
    for key, value in given.items():
        found = built(tilts, **{key: value}).intensity
        assert getattr(found, key) == value
        if key != "sigma_y":  # noise that is known is taken off the contrast
            kept = {k for k in given if k != key}
            assert all(getattr(found, k) == getattr(estimated, k) for k in kept)
    assert built(tilts, sigma_y=0.0).intensity.sigma_y == 0


def test_thickness_is_the_store_s_unless_given(tmp_path: Path, tilts: Path) -> None:
    assert built(tilts, thickness=8).geometry.thickness == 8
    bare = write(tmp_path, thickness_px=None)
    assert built(bare, thickness=8).geometry.thickness == 8
    error = refused(bare)
    assert error.argument == "thickness"
    assert "--thickness" in str(error)


def test_few_rows_make_a_smaller_block(tilts: Path) -> None:
    assert built(tilts).rows_per_call == 4
    assert built(tilts, rows_per_call=64).rows_per_call == 6


def test_data_and_weights_are_part_of_the_problem(tmp_path: Path, tilts: Path) -> None:
    first = built(tilts)
    data = noisy_data()
    data[0, 0, 0] += 1
    write(tmp_path, data)
    assert built(tilts).data_digest != first.data_digest
    assert built(tilts, denoiser="fibsem").denoiser_digest != first.denoiser_digest


def test_many_rows_are_sampled_all_over(tmp_path: Path) -> None:
    """The contrast of the last rows counts although they are not the first."""
    data = noisy_data(rows=200, field=24)
    plain = built(write(tmp_path, data)).intensity
    data[:, 150:] = 1000 + 3 * (data[:, 150:] - 1000)
    assert built(write(tmp_path, data)).intensity.std > 1.2 * plain.std


def test_bad_pixels_are_counted_or_masked(tmp_path: Path) -> None:
    data = noisy_data()
    clean = built(write(tmp_path, data)).intensity
    data[1, 2, 3] = np.nan
    data[2, 4, 5:8] = np.inf
    path = write(tmp_path, data)
    error = refused(path)
    assert error.argument == "tilts"
    assert "4 NaN or infinite pixels, first in view 2 (" in str(error)
    assert "degrees), row 2, column 3; view 3 (" in str(error)
    assert "--impute-nonfinite" in str(error)
    found = built(path, impute_nonfinite=True).intensity
    assert (found.mean, found.std) == pytest.approx((clean.mean, clean.std), rel=0.02)


def test_a_series_without_a_finite_pixel_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, np.full((len(ANGLES), 4, 8), np.nan, np.float32))
    assert "no finite pixel" in str(refused(path, impute_nonfinite=True))


def test_a_series_without_contrast_is_refused_unless_scaled(tmp_path: Path) -> None:
    path = write(tmp_path, np.ones((len(ANGLES), 4, 24), np.float32))
    assert "contrast" in str(refused(path))
    assert built(path, mean=0.1, std=1.0, sigma_y=0.1).intensity.std == 1
    scaled = built(path, mean=0.1, std=1.0, discrepancy="off").intensity
    assert scaled == Intensity(0.1, 1.0, 0.0)
    # A constant is no projection of anything.
    assert built(path, mean=0.1, std=1.0).intensity.misfit > 0


def test_a_missing_store_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path / "nowhere.zarr")
    assert error.argument == "tilts"
    assert "nowhere.zarr" in str(error)


def test_rays_along_the_slab_are_refused(tilts: Path) -> None:
    group = zarr.open_group(str(tilts))
    attribute: dict[str, Any] = dict(group.attrs["ddgm_dist"])  # type: ignore[call-overload]
    attribute["angles_deg"] = [*ANGLES[:-1], 85.0]
    group.attrs["ddgm_dist"] = attribute
    assert "85" in str(refused(tilts))


@pytest.mark.parametrize("key", ["sigma_1", "sigma_N"])
@pytest.mark.parametrize("level", [1e-4, 1e4])
def test_noise_levels_that_the_denoiser_never_saw_are_refused(
    tilts: Path, key: str, level: float
) -> None:
    error = refused(tilts, denoiser="fibsem", **{key: level})
    assert (error.argument, error.value) == (key, level)
    low, high = json.loads(shipped_weights().with_suffix(".json").read_text())["sigma_range"]
    assert f"{low:g} to {high:g}" in str(error)


@pytest.mark.parametrize(("first", "last"), [("sigma_1", "sigma_N"), ("s_1", "s_N")])
def test_levels_that_increase_are_refused_before_anything_is_estimated(
    tilts: Path, first: str, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def estimated(*_: object, **__: object) -> None:
        raise AssertionError("the data were looked at first")

    forget_record(tilts)
    monkeypatch.setattr("ddgm_dist.runs.build_problem.estimate", estimated)
    error = refused(tilts, **{first: 0.3, last: 0.6})
    assert (error.argument, error.value) == (last, 0.6)
    assert first in str(error)


def test_a_step_that_diverges_is_refused(tilts: Path) -> None:
    fine = built(tilts).step_size
    assert built(tilts, step_size=1.9 * fine).step_size == 1.9 * fine
    error = refused(tilts, step_size=2.1 * fine)
    assert error.argument == "step_size"
    assert "2/||A||^2" in str(error)


def test_missing_and_damaged_weights_are_refused(tilts: Path, tmp_path: Path) -> None:
    assert "no such file" in str(refused(tilts, denoiser=str(tmp_path / "nowhere.safetensors")))
    source, copy = shipped_weights(), tmp_path / "copy.safetensors"
    shutil.copy(source.with_suffix(".json"), copy.with_suffix(".json"))
    content = bytearray(source.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    assert "is damaged" in str(refused(tilts, denoiser=str(copy)))


@pytest.mark.parametrize("name", ["nothing", "nowhere:smooth", "json:nothing"])
def test_a_denoiser_that_is_none_is_refused(tilts: Path, name: str) -> None:
    error = refused(tilts, denoiser=name)
    assert (error.argument, error.value) == ("denoiser", name)


def test_windows_along_y_are_for_planes_that_have_a_y(tilts: Path) -> None:
    assert built(tilts).lattice_rows is None
    assert built(tilts, planes="zx,zx").lattice_rows is None
    whole = built(tilts, planes="zx,zy").lattice_rows
    assert whole is not None
    assert (whole.single, whole.origin, whole.width) == (True, 0, 6)


def test_windows_along_y_lie_on_a_lattice_of_their_own(tmp_path: Path) -> None:
    tilts = write(tmp_path, noisy_data(rows=40))
    lattice = built(tilts, planes="yx", window_rows=20, overlap_rows=8).lattice_rows
    assert lattice is not None
    assert (lattice.single, lattice.width, lattice.overlap) == (False, 20, 8)
    assert lattice.stream != built(tilts).lattice.stream
    error = refused(tilts, planes="zy", window_rows=20)
    assert error.argument == "window_rows"
    assert "twice the overlap of 32" in str(error)


def test_windows_too_narrow_for_their_overlap_are_refused(tilts: Path) -> None:
    assert refused(tilts, window=40, overlap=24).argument == "window"


def tissue_tilts(folder: Path, field: int, **moves: Any) -> Path:
    """Projections of a random specimen that goes on beyond the field, as far as any ray does."""
    volume = np.random.default_rng(5).standard_normal((12, 4, 2 * field), dtype=np.float32)
    volume = 100 + 20 * gaussian_filter(volume, (1.5, 0, 1.5)) * 3.8
    data = project(volume, ANGLES, n_u=field, **moves)
    data += np.random.default_rng(6).standard_normal(data.shape, dtype=np.float32)
    shifts = moves.get("shifts")
    return write(folder, data, shifts_px=None if shifts is None else tuple(shifts))


@pytest.mark.parametrize("dx", [0.0, 60.0, -33.3])
def test_a_wide_field_is_sampled_in_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dx: float
) -> None:
    path = forget_record(tissue_tilts(tmp_path, 2000, shifts=[(0.0, dx)] * len(ANGLES)))
    whole = built(path).intensity
    monkeypatch.setattr("ddgm_dist.tilts.sampled_rows.WHOLE_SAMPLE", 1000)
    monkeypatch.setattr("ddgm_dist.tilts.sampled_rows.SAMPLE_COLUMNS", 200)
    part = built(path).intensity
    assert part != whole
    assert part.mean == pytest.approx(whole.mean, rel=0.01)
    assert part.std == pytest.approx(whole.std, rel=0.05)
    assert part.sigma_y == pytest.approx(whole.sigma_y, rel=0.05)


def test_places_of_a_wide_field_show_the_same_specimen_in_every_tilt() -> None:
    moves = tuple((0.0, 10.0 * t) for t in range(len(ANGLES)))
    g = Geometry(ANGLES, 12, 4, 50_000, moves)
    places = list(_sample_columns(g))
    middles = []
    for part, seen in places:
        assert (part.width, seen.field, seen.shifts_px) == (4096, 4096, ())
        x = [
            (first + (part.width - 1) / 2 - dx - 49_999 / 2) / math.cos(angle)
            for first, angle, (_, dx) in zip(part.first, g.angles, moves, strict=True)
        ]
        inside = [0 < first < 50_000 - part.width for first in part.first]
        near = [v for v, ok in zip(x, inside, strict=True) if ok]
        assert max(near) - min(near) < 2
        middles.append(near[0])
    assert min(middles) < -22_000
    assert max(middles) > 22_000
    assert np.diff(middles) == pytest.approx(np.diff(middles)[0], abs=3)


def test_a_wide_isolated_specimen_is_sampled_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mass says what its mean is, so columns cannot be left out; rows can."""
    volume = np.zeros((12, 4, 600), np.float32)
    volume[:, :, 50:-50] = 100 + np.random.default_rng(5).standard_normal((12, 4, 500)) * 20
    path = forget_record(write(tmp_path, project(volume, ANGLES, n_u=600)))
    whole = built(path, boundary="vacuum").intensity
    monkeypatch.setattr("ddgm_dist.tilts.sampled_rows.WHOLE_SAMPLE", 100)
    assert built(path, boundary="vacuum").intensity == whole
    monkeypatch.setattr("ddgm_dist.tilts.sampled_rows._SAMPLE_BYTES", 0)
    rows = built(path, boundary="vacuum").intensity
    assert (rows.mean, rows.std) == pytest.approx((whole.mean, whole.std), rel=0.05)


def test_a_series_whose_samples_are_all_bad_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.full((len(ANGLES), 100, 24), np.nan, np.float32)
    data[:, 9:11] = 1
    path = write(tmp_path, data)
    assert "no finite pixel where" in str(refused(path, impute_nonfinite=True))
    built(path, impute_nonfinite=True, mean=0.1, std=1.0, sigma_y=0.1)


def test_a_part_without_contrast_spoils_nothing(tmp_path: Path) -> None:
    data = noisy_data(rows=200, field=24)
    plain = built(write(tmp_path, data)).intensity
    data[:, 100:130] = 1000
    found = built(write(tmp_path, data)).intensity
    assert found.std == pytest.approx(plain.std, rel=0.2)


def test_pixels_that_are_no_measurement_change_little(tmp_path: Path) -> None:
    """A thousandth of the pixels at any value, one view in twenty blank, rows blank, edges filled."""
    angles = tuple(float(a) for a in range(-57, 58, 6))
    volume = np.random.default_rng(5).standard_normal((12, 32, 420), dtype=np.float32)
    volume = 100 + 20 * gaussian_filter(volume, (1.5, 1.5, 1.5)) * 9
    clean = project(volume, angles, n_u=300)
    clean += np.random.default_rng(6).standard_normal(clean.shape, dtype=np.float32)
    meta = TiltSeriesMeta(angles, thickness_px=12)

    def intensity(data: np.ndarray) -> Intensity:
        path = tmp_path / "robust.zarr"
        write_tilt_series(path, data, meta, overwrite=True)
        return built(path).intensity

    base = intensity(clean)
    random = np.random.default_rng(7)
    share = random.random(clean.shape) < 1e-3
    for fault in ("one", "many", "view", "rows", "columns", "all"):
        data = clean.copy()
        if fault in ("rows", "all"):
            data[:, 5:7] = 0
        if fault in ("columns", "all"):
            data[:, :, :3] = 0
        if fault in ("view", "all"):
            data[10] = 0
        if fault == "one":
            data[9, 8, 150] = 33 * clean.max()
        if fault in ("many", "all"):
            data[share] = clean.max() * random.uniform(-33, 33, int(share.sum()))
        found = intensity(data)
        for name in ("mean", "std", "sigma_y"):
            got, wanted = getattr(found, name), getattr(base, name)
            assert got == pytest.approx(wanted, rel=0.05), (fault, name)


def test_clean_data_pose_the_problem_that_they_did(tilts: Path) -> None:
    found = built(tilts)
    assert found.screen is None
    assert built(tilts, despike=False).intensity == found.intensity


def test_hot_pixels_are_told_and_masked_unless_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = noisy_data(rows=9)
    data[1, 2, 30] = data[4, 7, 3] = 1e6
    path = write(tmp_path, data)
    screen = built(path).screen
    assert screen is not None
    assert screen.hot is not None
    told = [r.getMessage() for r in caplog.records if "stand" in r.getMessage()]
    assert len(told) == 1
    assert "2 pixels stand out" in told[0]
    assert "degrees), row 2, column 30; view 5 (" in told[0]
    assert "row 7, column 3 (rows and columns from 0): masked (--no-despike" in told[0]
    caplog.clear()
    assert built(path, despike=False).screen is None
    assert any("left as they are" in r.getMessage() for r in caplog.records)


def test_a_constant_is_told_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tissue_tilts(tmp_path, 200)
    built(path)
    assert not caplog.records
    projections = zarr.open_array(str(path / "projections"))
    data = np.asarray(projections[:])
    changed = write(tmp_path, data + np.float32(1500))
    caplog.clear()
    built(changed)
    (record,) = caplog.records
    words = record.getMessage()
    level = float(words.split("--dark ")[1].split()[0])
    assert level == pytest.approx(1500, rel=0.1)
    assert "a constant of about" in words


def test_a_constant_after_a_logarithm_is_that_of_a_wrong_beam(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What cures it is another beam, not a dark field; so it says what the beam is wrong by."""
    clean = np.asarray(zarr.open_array(str(tissue_tilts(tmp_path, 200) / "projections"))[:])
    record = Provenance()
    record.say("counts of the beam", "700", "estimated: mean against 1/cos, within 9 %")
    data = clean / clean.mean() + np.float32(np.log(0.2))
    caplog.clear()
    built(write(tmp_path, data.astype(np.float32), provenance=record))
    (words,) = (m for m in caplog.messages if "a constant of about" in m)
    assert "--dark" not in words
    assert (
        "a beam of 700 (estimated: mean against 1/cos, within 9 %): check ingest --count" in words
    )
    times = float(words.split("; a beam of ")[1].split()[0])
    assert times == pytest.approx(5, rel=0.1)


@pytest.mark.parametrize("scale", [False, True], ids=["mean", "deviation"])
def test_views_of_zero_mean_have_no_constant(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, scale: bool
) -> None:
    simulate(
        TissuePhantom((32, 32, 512), seed=1), tmp_path / "c.zarr", noise="gaussian:0.1", field=144
    )
    data = np.asarray(zarr.open_array(str(tmp_path / "c.zarr" / "projections"))[:])
    data = data - data.mean(axis=(1, 2), keepdims=True)
    if scale:
        data /= data.std(axis=(1, 2), keepdims=True)
    angles = tuple(np.linspace(-60, 60, len(data)).tolist())
    write_tilt_series(tmp_path / "t.zarr", data, TiltSeriesMeta(angles, thickness_px=32))
    caplog.clear()
    built(tmp_path / "t.zarr")
    assert not caplog.messages


def test_a_store_that_says_its_bad_pixels_are_unmeasured_needs_no_flag(tmp_path: Path) -> None:
    data = noisy_data()
    data[1, 2, 3] = np.nan
    assert "--impute-nonfinite" in str(refused(write(tmp_path, data)))
    path = write(tmp_path, data, bad_pixels="unmeasured")
    assert built(path).digest() == built(path, impute_nonfinite=True).digest()
    assert "bad_pixels" not in dict(zarr.open_group(str(write(tmp_path))).attrs["ddgm_dist"])  # type: ignore[call-overload]


def test_lines_that_the_estimates_leave_out_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault in one view: named with its rows."""
    data = noisy_data(rows=20, field=60)
    data[2, :4, 20:30] = 1e5  # too large for a hot pixel
    found = build_problem(write(tmp_path, data), Config().problem()).findings
    (finding,) = (f for f in found if f.kind == "left-out")
    assert finding.count == 4
    assert finding.places == ((2, 0), (2, 1), (2, 2))
    assert "view 3 (-10 degrees), row 0;" in finding.text
    assert finding.views == (3, 3, 3)
    assert any("left out of the estimates" in r.getMessage() for r in caplog.records)


def sparse(kind: str) -> np.ndarray:
    """Clean projections of what fills little of the field."""
    r, volume = np.random.default_rng(0), np.zeros((16, 24, 200), np.float32)
    if kind == "points":
        volume[r.integers(0, 16, 25), r.integers(0, 24, 25), r.integers(0, 200, 25)] = 1
    elif kind == "rows":
        volume[:] = 1
        volume[4:12, 10:13, 80:120] += r.uniform(3, 9, (8, 3, 40))
    elif kind == "beads":
        z, y, x = np.mgrid[:16, :24, :200]
        volume[:] = 1 + 0.1 * r.standard_normal(volume.shape)
        for at in (60, 90, 130):
            volume[(z - 8) ** 2 + (y - 12) ** 2 + (x - at) ** 2 < 3.0**2] = 20
    else:
        volume[:, :, 30:-30] = 1 + 0.3 * r.standard_normal((16, 24, 140)).clip(-2)
    data = project(volume, tuple(float(a) for a in range(-60, 61, 5)), n_u=200)
    return r.poisson(50 * data.clip(0)) if kind == "counts" else data


@pytest.mark.parametrize("kind", ["points", "rows", "beads", "vacuum", "counts"])
def test_clean_data_of_sparse_specimens_pose_the_problem_that_they_did(
    tmp_path: Path, kind: str
) -> None:
    data, path = sparse(kind).astype(np.float32), tmp_path / "sparse.zarr"
    angles = tuple(float(a) for a in range(-60, 61, 5))
    write_tilt_series(path, data, TiltSeriesMeta(angles, thickness_px=16))
    found = build_problem(path, Config().problem())
    assert found.problem.screen is None
    assert not [f for f in found.findings if f.kind == "left-out"]
    assert built(path, despike=False).intensity == found.problem.intensity


@pytest.mark.parametrize("seed", [0, 2])
@pytest.mark.parametrize("constant", [0.0, 5000.0])
def test_a_constant_in_a_narrow_slab_that_is_uneven_is_told_by_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, seed: int, constant: float
) -> None:
    """By ingest, which does not know the specimen, and by what reads the series."""
    clean = simulate(
        TissuePhantom((32, 8, 256), seed=seed),
        tmp_path / "c.zarr",
        noise="gaussian:0.05",
        field=200,
    )
    np.save(tmp_path / "s.npy", clean.read(slice(None)) + np.float32(constant))
    angles = clean.meta.angles_deg
    ingest(tmp_path / "s.npy", tmp_path / "t.zarr", angles=angles, thickness=32)
    built(tmp_path / "t.zarr")
    told = [m for m in caplog.messages if "a constant of about" in m]
    assert len(told) == (2 if constant else 0)
    for words in told:
        assert float(words.split("--dark ")[1].split()[0]) == pytest.approx(5000, rel=0.1)
