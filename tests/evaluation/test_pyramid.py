"""The pyramid: means of what is there, the same from any scheduler, and never half of it."""

import itertools
import json
import pickle

import numpy as np
import pytest
import yaozarrs
import zarr

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.evaluation import pyramid
from ddgm_dist.evaluation.pyramid import build_pyramid, plan_levels
from ddgm_dist.readers.volumes import open_volume
from ddgm_dist.records.lease import Lease
from ddgm_dist.records.result import open_result
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.volumes import levels as store_levels
from ddgm_dist.volumes.layout import VolumeLayout
from ddgm_dist.volumes.levels import level_layout
from ddgm_dist.volumes.store import create_volume, open_volume_store

RANDOM = np.random.default_rng(0)
EVEN = (128, 24, 96)
ODD = (67, 9, 301)
FLAT = (20, 1, 700)


def volume(shape):
    return RANDOM.normal(130, 35, size=shape).astype(np.float32)


def result(path, data, *, size=4.0):
    """A store as a reconstruction leaves it."""
    shard = (data.shape[0], 8, 64)
    layout = VolumeLayout(data.shape, shard, (data.shape[0], 8, 32))
    store = create_volume(path, layout, voxel_size_nm=size, name="v", attributes={"more": 1})
    store.write(Box((0, 0, 0), data.shape), data)
    RunRecord(path).write_json("problem", {})
    RunRecord(path).write_state("complete", "0")
    return path


@pytest.fixture
def small_shards(monkeypatch):
    """Many shards of several chunks in a small volume."""
    for name, value in (("_CHUNK", 2**9), ("_SHARD", 2**11), ("_EDGE", 8)):
        monkeypatch.setattr(store_levels, name, value)


def reference(fine, factor):
    """Means over blocks, by the definition: over the voxels that there are."""
    out = np.empty([-(-n // f) for n, f in zip(fine.shape, factor, strict=True)])
    for index in np.ndindex(*out.shape):
        cell = tuple(slice(i * f, (i + 1) * f) for i, f in zip(index, factor, strict=True))
        out[index] = fine[cell].mean(dtype=np.float64)
    return out


def read(path, level):
    return zarr.open_array(f"{path}/{level}", mode="r")[:]


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("shape", [EVEN, ODD, FLAT, (1, 5, 7)])
def test_levels_are_means_of_the_level_before(tmp_path, shape):
    data = volume(shape)
    path = result(tmp_path / "v.zarr", data)
    made = build_pyramid(path, levels=3)
    assert len(made) == 4
    fine = data
    for level, before in zip(made[1:], made[:-1], strict=True):
        factor = [b // a for a, b in zip(before.factor, level.factor, strict=True)]
        found = read(path, level.name)
        assert found.dtype == np.float32
        assert found.shape == level.shape
        np.testing.assert_allclose(found, reference(fine, factor), rtol=3e-7)
        fine = found
    np.testing.assert_array_equal(read(path, 0), data)


@pytest.mark.usefixtures("small_shards")
def test_schedulers_agree_to_the_bit(tmp_path):
    data = volume(ODD)
    threads, one = result(tmp_path / "a.zarr", data), result(tmp_path / "b.zarr", data)
    made = build_pyramid(threads, levels=2)
    assert build_pyramid(one, levels=2, scheduler="sync") == made
    for level in made:
        np.testing.assert_array_equal(read(one, level.name), read(threads, level.name))


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_ray_agrees_to_the_bit(tmp_path):
    data = volume((70, 40, 301))
    threads, far = result(tmp_path / "a.zarr", data), result(tmp_path / "b.zarr", data)
    made = build_pyramid(threads, levels=2)
    assert build_pyramid(far, levels=2, scheduler="ray") == made
    for level in made:
        np.testing.assert_array_equal(read(far, level.name), read(threads, level.name))
    yaozarrs.validate_zarr_store(str(far))


def test_shards_of_a_usual_size_make_the_same(tmp_path, monkeypatch):
    data = volume(ODD)
    whole, cut = result(tmp_path / "a.zarr", data), result(tmp_path / "b.zarr", data)
    build_pyramid(whole, levels=2)
    monkeypatch.setattr(store_levels, "_SHARD", 2**12)
    monkeypatch.setattr(store_levels, "_CHUNK", 2**11)
    build_pyramid(cut, levels=2)
    assert open_volume_store(cut, level="1").layout != open_volume_store(whole, level="1").layout
    for name in ("1", "2"):
        np.testing.assert_array_equal(read(cut, name), read(whole, name))


def test_a_voxel_that_is_not_there_shows_in_every_level(tmp_path):
    data = volume((8, 8, 32))
    data[3, 5, 17] = np.nan
    data[0, 0, 0], data[0, 0, 1] = np.inf, -np.inf
    path = result(tmp_path / "v.zarr", data)
    build_pyramid(path, levels=2)
    assert np.argwhere(np.isnan(read(path, 1))).tolist() == [[0, 0, 0], [3, 2, 8]]
    assert np.argwhere(np.isnan(read(path, 2))).tolist() == [[0, 0, 0], [3, 1, 4]]


@pytest.mark.parametrize("size", [4.0, None])
def test_the_metadata_are_valid_and_say_where_voxels_lie(tmp_path, size):
    path = result(tmp_path / "v.zarr", volume(EVEN), size=size)
    build_pyramid(path, levels=3)
    yaozarrs.validate_zarr_store(str(path))
    attributes = open_volume_store(path).attributes
    assert attributes["more"] == 1
    (image,) = attributes["ome"]["multiscales"]
    assert image["name"] == "v"
    unit = size or 1.0
    for k, dataset in enumerate(image["datasets"]):
        assert dataset["path"] == str(k)
        found = {t["type"]: t[t["type"]] for t in dataset["coordinateTransformations"]}
        # Positions of the first voxel's fine voxels, averaged.
        factor = (min(2**k, 2), 2**k, 2**k)
        assert found["scale"] == [unit * f for f in factor]
        want = [unit * float(np.mean(range(f))) for f in factor]
        assert found.get("translation", [0, 0, 0]) == want
    assert "translation" not in json.dumps(image["datasets"][0])
    # Level 0 is still what everything else reads.
    assert open_volume(path).shape == open_result(path).shape == EVEN


@pytest.mark.parametrize(
    ("shape", "levels", "last"),
    [
        ((128, 2048, 2048), None, (64, 256, 256)),
        ((128, 1, 1_000_000), None, (64, 1, 245)),
        ((64, 300, 300), None, (64, 150, 150)),
        ((64, 256, 256), None, (64, 256, 256)),
        ((300, 301, 302), 2, (75, 76, 76)),
        ((300, 301, 302), 5, (38, 10, 10)),
        ((128, 1, 1), 1, (64, 1, 1)),
    ],
)
def test_levels_are_planned_from_the_shape(shape, levels, last):
    made = plan_levels(shape, "0", levels)
    assert made[0].shape == shape
    assert made[-1].shape == last
    for fine, coarse in itertools.pairwise(made):
        assert coarse.name == str(int(fine.name) + 1)
        for n, m, f, g in zip(fine.shape, coarse.shape, fine.factor, coarse.factor, strict=True):
            assert m == -(-n * f // g)


@pytest.mark.parametrize(
    "shape", [(64, 10_000, 10_000), (1, 1, 500_000), (64, 1, 500_000), (3, 2, 5), (900, 900, 900)]
)
def test_a_task_is_bounded_whatever_the_shape(shape):
    """It writes a shard and reads at most eight times as many voxels."""
    layout = level_layout(shape)
    assert np.prod(layout.shard) <= 2**20
    assert np.prod(layout.chunk) <= 2**18
    many = np.prod([-(-n // s) for n, s in zip(shape, layout.shard, strict=True)])
    assert many <= 8 + 4 * np.prod(shape) / 2**20


def test_small_results_need_no_pyramid(tmp_path):
    path = result(tmp_path / "v.zarr", volume((8, 8, 32)))
    before = (path / "zarr.json").read_bytes()
    assert [level.name for level in build_pyramid(path)] == ["0"]
    assert (path / "zarr.json").read_bytes() == before


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.fixture
def build(monkeypatch):
    """Build two levels shard by shard, to be killed before one; which shards were written."""

    def build(path, fatal=None, **options):
        written, fill = [], pyramid._fill_shard

        def noted(step, index):
            if len(written) == fatal:
                raise Killed
            fill(step, index)
            written.append((step.coarse.name, index))

        with monkeypatch.context() as patch:
            patch.setattr(pyramid, "_fill_shard", noted)
            try:
                build_pyramid(path, levels=2, scheduler="sync", **options)
            except Killed:
                assert fatal is not None
        return written

    return build


@pytest.mark.usefixtures("small_shards")
def test_a_killed_pyramid_is_no_pyramid_and_goes_on(tmp_path, build):
    data = volume((12, 33, 90))
    whole = result(tmp_path / "whole.zarr", data)
    every = build(whole)
    assert len(every) == len(set(every)) > 8
    for fatal in range(len(every)):
        path = result(tmp_path / f"{fatal}.zarr", data)
        before = (path / "zarr.json").read_text()
        first = build(path, fatal)
        assert (path / "zarr.json").read_text() == before
        yaozarrs.validate_zarr_store(str(path))
        np.testing.assert_array_equal(open_result(path).to_dask().compute(), data)
        assert first + build(path) == every  # nothing twice
        for name in ("1", "2"):
            np.testing.assert_array_equal(read(path, name), read(whole, name))
        there, want = (json.loads((p / "zarr.json").read_text()) for p in (path, whole))
        assert there == want


@pytest.mark.usefixtures("small_shards")
def test_a_kill_before_the_last_write_changes_nothing(tmp_path, build, monkeypatch):
    path = result(tmp_path / "v.zarr", volume((12, 33, 90)))
    before = (path / "zarr.json").read_text()

    def broken(finest, level):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(store_levels, "_dataset", broken)
        with pytest.raises(Killed):
            build_pyramid(path, levels=2)
    assert (path / "zarr.json").read_text() == before
    assert build(path) == []
    assert len(open_volume_store(path).attributes["ome"]["multiscales"][0]["datasets"]) == 3


@pytest.mark.usefixtures("small_shards")
def test_an_interrupted_pyramid_of_another_plan_is_made_anew(tmp_path, build):
    data = volume((12, 33, 90))
    path = result(tmp_path / "v.zarr", data)
    build(path, 3)
    assert [level.name for level in build_pyramid(path, levels=1)] == ["0", "1"]
    assert not (path / "2").exists()
    np.testing.assert_allclose(read(path, 1), reference(data, (1, 2, 2)), rtol=3e-7)


@pytest.mark.usefixtures("small_shards")
def test_a_pyramid_is_replaced_only_when_asked(tmp_path, build):
    path = result(tmp_path / "v.zarr", volume((12, 33, 90)))
    every = build(path)
    with pytest.raises(InputError, match="has a pyramid of 2 levels already; overwrite it"):
        build_pyramid(path)
    # Killed while it is replaced, it still has the pyramid of before, and the same call goes on.
    marked = [(f"{name}b", index) for name, index in every]
    assert build(path, 2, overwrite=True) == marked[:2]
    datasets = open_volume_store(path).attributes["ome"]["multiscales"][0]["datasets"]
    assert [level["path"] for level in datasets] == ["0", "1", "2"]
    assert build(path, overwrite=True) == marked[2:]
    assert not (path / "1").exists()
    build_pyramid(path, levels=1, overwrite=True)
    assert not (path / "2b").exists()
    datasets = open_volume_store(path).attributes["ome"]["multiscales"][0]["datasets"]
    assert [level["path"] for level in datasets] == ["0", "1"]
    yaozarrs.validate_zarr_store(str(path))


def test_what_is_no_finished_result_is_refused(tmp_path):
    data = volume((8, 16, 128))
    with pytest.raises(InputError, match="does not exist"):
        build_pyramid(tmp_path / "none.zarr")
    path = result(tmp_path / "v.zarr", data)
    for levels in (0, -1, 9):
        with pytest.raises(InputError, match="levels"):
            build_pyramid(path, levels=levels)
    with pytest.raises(InputError, match="scheduler"):
        build_pyramid(path, scheduler="processes")
    RunRecord(path).write_state("running", "0")
    with pytest.raises(StorageError, match="not whole"):
        build_pyramid(path)
    RunRecord(path).delete("state")
    with pytest.raises(InputError, match="no record of a run"):
        build_pyramid(path)
    assert not (path / "1").exists()


def test_a_lost_shard_is_refused(tmp_path):
    path = result(tmp_path / "v.zarr", volume((8, 16, 128)))
    (path / "0/c/0/1/0").unlink()
    with pytest.raises(StorageError, match=r"has lost 1 shards, among them \(0, 1, 0\)"):
        build_pyramid(path, levels=1)


def test_only_one_writes(tmp_path):
    path = result(tmp_path / "v.zarr", volume((8, 16, 128)))
    with Lease(path), pytest.raises(InputError, match="is being written by"):
        build_pyramid(path, levels=1)
    assert [level.name for level in build_pyramid(path, levels=1)] == ["0", "1"]


def test_a_level_crosses_process_borders_as_itself(tmp_path):
    path = result(tmp_path / "v.zarr", volume((8, 16, 128)))
    build_pyramid(path, levels=1)
    level = pickle.loads(pickle.dumps(open_volume_store(path, level="1")))
    assert level.shape == (8, 8, 64)
    np.testing.assert_array_equal(level.to_dask().compute(), read(path, 1))
    with pytest.raises(InputError, match="KeyError: '7'"):
        open_volume_store(path, level="7")
