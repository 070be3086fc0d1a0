"""Simulated tilt series: geometry of the store, noise laws, addresses of the noise, refusals."""

import uuid

import dask.array as da
import numpy as np
import pytest
import zarr

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.readers.base import ArrayVolume
from ddgm_dist.simulation import streamed_projection as scan
from ddgm_dist.simulation.projector import Projector, project
from ddgm_dist.simulation.simulate import simulate
from ddgm_dist.tilts.series import open_tilt_series

ANGLES = (-60.0, -20.0, 0.0, 35.0)
ALL = slice(None)
VOLUME = np.random.default_rng(0).uniform(1, 2, size=(6, 21, 40)).astype(np.float32)


class Recorder(ArrayVolume):
    """A volume that remembers how many rows and columns were read at once, and voxels in all."""

    rows = columns = voxels = 0

    def read(self, box):
        self.rows, self.columns = max(self.rows, box.shape[1]), max(self.columns, box.shape[2])
        self.voxels += box.size
        return super().read(box)


def run(path, volume=VOLUME, **options):
    """A series of its own: one that is replaced cannot be compared with what replaces it."""
    options = {"angles": ANGLES} | options
    return simulate(volume, path / f"{uuid.uuid4().hex}.zarr", **options)


def test_the_store_holds_the_projections_and_what_was_done(tmp_path):
    series = run(tmp_path, field=24, shifts=[(0.5, -1.25)] * 4, pixel_size_nm=2.5, seed=7)
    want = project(VOLUME, ANGLES, n_u=24, shifts=[(0.5, -1.25)] * 4)
    np.testing.assert_array_equal(series.read(ALL), want)
    meta = open_tilt_series(series.path).meta
    assert meta.angles_deg == ANGLES
    assert meta.shifts_px == ((0.5, -1.25),) * 4
    assert (meta.thickness_px, meta.pixel_size_nm) == (6, 2.5)
    for word in ("(6, 21, 40)", "field 24", "noise none", "seed 7"):
        assert word in meta.description


def test_defaults(tmp_path):
    series = simulate(VOLUME[:, :2], tmp_path / "t.zarr")
    assert series.shape == (61, 2, 40)
    assert (series.meta.angles_deg[0], series.meta.angles_deg[-1]) == (-60, 60)
    assert series.meta.shifts_px is None


@pytest.mark.parametrize("kind", ["npy", "zarr", "source", "float64", "dask"])
def test_every_kind_of_volume_gives_the_same(tmp_path, kind):
    np.save(tmp_path / "v.npy", VOLUME)
    zarr.create_array(str(tmp_path / "v.zarr"), data=VOLUME)
    volume = {
        "npy": tmp_path / "v.npy",
        "zarr": str(tmp_path / "v.zarr"),
        "source": ArrayVolume(VOLUME),
        "float64": VOLUME.astype(np.float64),
        "dask": da.from_array(VOLUME, chunks=(4, 5, 16)),
    }[kind]
    np.testing.assert_array_equal(run(tmp_path, volume).read(ALL), project(VOLUME, ANGLES, n_u=40))


@pytest.mark.parametrize("noise", ["none", "gaussian:0.3", "poisson:50"])
def test_blocks_of_rows_do_not_show(tmp_path, monkeypatch, noise):
    options = {"noise": noise, "shifts": 1.7, "seed": 3}
    whole = run(tmp_path, **options).read(ALL)
    monkeypatch.setattr("ddgm_dist.simulation.streamed_projection._BLOCK_BYTES", 0)
    source = Recorder(VOLUME)
    split = run(tmp_path, source, **options).read(ALL)
    np.testing.assert_allclose(split, whole, rtol=1e-6)
    assert source.rows <= 8 + 2 * 4


@pytest.mark.parametrize("noise", ["none", "gaussian:0.3", "poisson:50"])
@pytest.mark.parametrize(
    ("field", "shifts"), [(200, 0.0), (120, 1.7), (300, [(0, 90.0), (0, -5.2), (1, -90.0), (0, 0)])]
)
def test_pieces_of_columns_do_not_show(tmp_path, monkeypatch, noise, field, shifts):
    volume = np.random.default_rng(0).uniform(1, 2, size=(6, 10, 200)).astype(np.float32)
    options = {"noise": noise, "field": field, "shifts": shifts, "seed": 3}
    whole = run(tmp_path, volume, **options).read(ALL)
    for name, value in (("_BLOCK_BYTES", 0), ("_LEAST_COLUMNS", 24), ("CHUNK_COLUMNS", 16)):
        monkeypatch.setattr(f"ddgm_dist.simulation.streamed_projection.{name}", value)
    monkeypatch.setattr("ddgm_dist.tilts.writer.CHUNK_COLUMNS", 16)
    source = Recorder(volume)
    split = run(tmp_path, source, **options).read(ALL)
    np.testing.assert_allclose(split, whole, rtol=2e-6, atol=1e-5)
    assert source.columns == 24
    if shifts == 0:  # otherwise rows are read again for their neighbours
        assert source.voxels == (1 if noise == "none" else 2) * volume.size


def test_few_unfinished_columns_are_kept():
    """A sixth of a wide field, and parts of chunks: not the projections of a whole row."""
    volume = ArrayVolume(np.ones((2, 1, 20_000), np.float32))
    projector = Projector(2, 20_000, np.linspace(-60, 60, 13), n_u=20_000)
    pending, most = scan._Pending(13, 1, 20_000), 0
    for start in range(0, 20_000, 1000):
        columns = slice(start, start + 1000)
        block = volume.read(Box((0, 0, start), (2, 1, start + 1000)))
        for tilt, first, seen in projector.parts(block, columns, slice(0, 1), 1):
            pending.add(tilt, first, seen)
        rest = slice(start + 1000, 20_001)
        list(pending.take(min(projector.reached(t, rest).start for t in range(13))))
        most = max(most, sum(part.size for part in pending._chunks.values()))
    assert most < 0.25 * 13 * 20_000


def test_a_part_of_the_rows_is_that_part_of_the_whole(tmp_path):
    options = {"noise": "none", "shifts": 1.7, "seed": 3}
    whole = run(tmp_path, **options).read(ALL)
    np.testing.assert_array_equal(
        run(tmp_path, rows=slice(5, 16), **options).read(ALL), whole[:, 5:16]
    )


def noise_of(path, noise, volume=VOLUME, **options):
    clean = run(path, volume, **options).read(ALL).astype(np.float64)
    return run(path, volume, noise=noise, **options).read(ALL) - clean, clean


def test_gaussian_noise_has_the_stated_level(tmp_path):
    added, clean = noise_of(tmp_path, "gaussian:0.5")
    spread = (clean - clean.mean(axis=(1, 2), keepdims=True)).std()
    assert added.std() == pytest.approx(0.5 * spread, rel=0.04)
    assert abs(added.mean()) < 4 * added.std() / np.sqrt(added.size)
    # White, and another for each tilt, row and column.
    for axis in range(3):
        a, b = (
            added.take(range(1, added.shape[axis]), axis),
            added.take(range(added.shape[axis] - 1), axis),
        )
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / np.sqrt(a.size)


def test_the_level_is_measured_over_all_blocks(tmp_path, monkeypatch):
    ramp = VOLUME + np.linspace(0, 9, 21, dtype=np.float32)[:, None]
    whole, _ = noise_of(tmp_path, "gaussian:0.5", ramp)
    monkeypatch.setattr("ddgm_dist.simulation.streamed_projection._BLOCK_BYTES", 0)
    split, clean = noise_of(tmp_path, "gaussian:0.5", ramp)
    np.testing.assert_allclose(split, whole, atol=1e-4)
    spread = (clean - clean.mean(axis=(1, 2), keepdims=True)).std()
    assert split.std() == pytest.approx(0.5 * spread, rel=0.04)


def test_poisson_noise_has_mean_and_variance_of_counts(tmp_path):
    dose, wide = 40.0, np.ones((6, 200, 60), dtype=np.float32)
    added, clean = noise_of(tmp_path, f"poisson:{dose}", wide, field=20)
    mean = clean[ANGLES.index(0.0)].mean()
    for tilt, noise in enumerate(added):
        assert noise.var() == pytest.approx(clean[tilt].mean() * mean / dose, rel=0.1)
        assert abs(noise.mean()) < 4 * noise.std() / np.sqrt(noise.size)
    counts = (added + clean) * dose / mean
    np.testing.assert_allclose(counts, counts.round(), atol=1e-3)


def test_the_dose_counts_on_the_specimen_at_zero_tilt(tmp_path):
    slab = np.ones((6, 200, 40), dtype=np.float32)
    recorded = run(tmp_path, slab, noise="poisson:30", field=80, angles=(50.0,)).read(ALL)
    middle = recorded[0, :, 35:45]
    # Six voxels are 30 counts; a pixel of the tilted slab sees six over the cosine.
    path = 6 / np.cos(np.radians(50))
    assert middle.mean() == pytest.approx(path, rel=0.02)
    assert middle.var() == pytest.approx(path * 6 / 30, rel=0.12)
    assert (recorded[0, :, :10] == 0).all()


@pytest.mark.parametrize("noise", ["gaussian:0.3", "poisson:50"])
def test_noise_and_shifts_are_a_function_of_the_seed(tmp_path, noise):
    first, again, other = (run(tmp_path, noise=noise, shifts=2.0, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.read(ALL), again.read(ALL))
    assert first.meta.shifts_px == again.meta.shifts_px != other.meta.shifts_px
    fixed = [run(tmp_path, noise=noise, seed=s).read(ALL) for s in (1, 2)]
    assert (fixed[0] != fixed[1]).mean() > 0.5


def test_random_shifts_stay_within_their_bound(tmp_path):
    series = run(tmp_path, VOLUME[:, :3], angles=np.linspace(-60, 60, 41), shifts=1.5)
    moves = np.array(series.meta.shifts_px)
    assert moves.shape == (41, 2)
    assert np.abs(moves).max() <= 1.5
    assert (np.abs(moves).max(axis=0) > 1).all()
    assert (moves.min(axis=0) < 0).all()


def hole():
    broken = VOLUME.copy()
    broken[3, 12, 5] = np.nan
    return broken


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"noise": "salt:1"}, "noise"),
        ({"noise": "gaussian"}, "noise"),
        ({"noise": "none:1"}, "noise"),
        ({"noise": "gaussian:much"}, "noise"),
        ({"noise": "gaussian:-0.1"}, "noise"),
        ({"noise": "gaussian:nan"}, "noise"),
        ({"noise": "poisson:0"}, "noise"),
        ({"noise": "poisson:inf"}, "noise"),
        ({"noise": "poisson:9", "volume": -VOLUME}, "noise"),
        ({"noise": "poisson:9", "volume": VOLUME - 1.4}, "noise"),
        ({"noise": "gaussian:1", "volume": hole()}, "volume"),
        ({"volume": VOLUME[0]}, "source"),
        ({"volume": "nowhere.zarr"}, "volume"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"field": 0}, "field"),
        ({"field": 23}, "field"),
        ({"rows": slice(4, 4)}, "rows"),
        ({"rows": slice(4, 22)}, "rows"),
        ({"rows": slice(-4, None)}, "rows"),
        ({"rows": slice(0, 8, 2)}, "rows"),
        ({"shifts": -1.0}, "shifts"),
        ({"shifts": float("nan")}, "shifts"),
        ({"shifts": [(0, 0)]}, "shifts"),
        ({"shifts": [(0, float("nan"))] * 4}, "shifts_px"),
        ({"shifts": [(float("nan"), 0)] * 4, "noise": "gaussian:1"}, "shifts_px"),
        ({"angles": ()}, "angles_deg"),
        ({"angles": (0.0, 89.0)}, "angles_deg"),
        ({"pixel_size_nm": -1.0}, "pixel_size_nm"),
        ({"oversample": 0}, "oversample"),
    ],
)
def test_what_cannot_be_simulated_is_refused_before_anything_is_written(tmp_path, change, argument):
    with pytest.raises(InputError) as caught:
        run(tmp_path, **change)
    assert caught.value.argument == argument
    assert list(tmp_path.iterdir()) == []


def test_a_hole_met_half_way_leaves_no_store(tmp_path):
    with pytest.raises(InputError, match=r"nan at \(z, y, x\) = \(3, 12, 5\)"):
        run(tmp_path, hole())
    assert list(tmp_path.iterdir()) == []


def test_an_existing_store_is_kept(tmp_path):
    before = simulate(VOLUME, tmp_path / "t.zarr", angles=ANGLES).fingerprint()
    with pytest.raises(InputError, match="exists"):
        simulate(VOLUME, tmp_path / "t.zarr", angles=ANGLES, seed=9, noise="gaussian:1")
    assert open_tilt_series(tmp_path / "t.zarr").fingerprint() == before


def test_ringing_at_an_edge_is_not_taken_for_negative_counts(tmp_path):
    block = np.zeros((8, 4, 64), dtype=np.float32)
    block[:, :, 20:44] = 1
    series = run(tmp_path, block, noise="poisson:100")
    assert series.read(ALL).min() == 0
