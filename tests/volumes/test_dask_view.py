"""A volume as a dask array: the same voxels by any index, in chunks that suit the store."""

import pickle

import dask.array as da
import numpy as np
import pytest

from ddgm_dist.core.box import Box
from ddgm_dist.errors import StorageError
from ddgm_dist.volumes import dask_view
from ddgm_dist.volumes.dask_view import dask_chunks
from ddgm_dist.volumes.layout import VolumeLayout
from ddgm_dist.volumes.store import create_volume, open_volume_store

LAYOUT = VolumeLayout(shape=(20, 30, 70), shard=(24, 16, 64), chunk=(8, 8, 16))
VOXELS = np.random.default_rng(0).normal(size=LAYOUT.shape).astype(np.float32)


@pytest.fixture
def store(tmp_path):
    store = create_volume(tmp_path / "v.zarr", LAYOUT, voxel_size_nm=4.0, name="test")
    store.write(Box((0, 0, 0), LAYOUT.shape), VOXELS)
    return store


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(dask_view, "_MOST", 20 * 16 * 64)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    "index",
    [
        np.s_[:],
        np.s_[3:9, 10:20, 50:],
        np.s_[-1, ::3, ::-2],
        np.s_[:, 5, 69:3:-5],
        np.s_[4:4],
        np.s_[[1, 5, 3], :, 7],
        np.s_[..., None, 2],
    ],
)
def test_any_index_gives_the_voxels(store, index):
    lazy = store.to_dask()
    assert lazy.chunks == ((20,), (16, 14), (64, 6))
    assert lazy.dtype == np.float32
    np.testing.assert_array_equal(lazy[index].compute(), VOXELS[index])


@pytest.mark.parametrize(
    "index",
    [np.s_[3:9, 10:20, 50:], np.s_[-1, ::3, ::-2], np.s_[9:2:-3, 5, 4:4], np.s_[-5:-1, 0:99, -3]],
)
def test_indices_that_dask_fuses_into_the_read_give_the_voxels(store, index):
    np.testing.assert_array_equal(dask_view._View(store)[index], VOXELS[index])


@pytest.mark.usefixtures("small_chunks")
def test_it_reads_no_more_than_is_asked(store, monkeypatch):
    seen = []
    read = type(store).read
    monkeypatch.setattr(type(store), "read", lambda self, box: seen.append(box) or read(self, box))
    store.to_dask()[2, 20:22, 10:12].compute()
    assert seen == [Box((2, 20, 10), (3, 22, 12))]


def test_it_crosses_process_borders_as_a_path(store):
    lazy = pickle.loads(pickle.dumps(open_volume_store(store.place).to_dask() + 1))
    np.testing.assert_array_equal(lazy.compute(), VOXELS + 1)
    assert len(pickle.dumps(store.to_dask())) < 10_000


def test_damage_is_an_error(store, tmp_path):
    shard = tmp_path / "v.zarr/0/c/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(StorageError):
        open_volume_store(store.place).to_dask().compute()


@pytest.mark.parametrize(
    ("shape", "shard", "chunk", "size"),
    [
        ((128, 2048, 2048), (128, 8, 2048), (128, 8, 1024), (128, 128, 2048)),
        ((128, 1, 1_000_000), (128, 1, 16384), (128, 1, 1024), (128, 1, 262144)),
        ((128, 64, 1_000_000), (128, 8, 1_000_448), (128, 8, 1024), (128, 8, 32768)),
        ((20, 30, 70), (24, 16, 64), (8, 8, 16), (20, 30, 70)),
        ((512, 512, 512), (64, 64, 64), (64, 64, 64), (128, 512, 512)),
    ],
)
def test_chunks_are_whole_shards_of_about_a_hundred_megabytes(shape, shard, chunk, size):
    found = dask_chunks(VolumeLayout(shape, shard, chunk))
    assert found == size
    assert np.prod(found) * 4 <= 128 * 2**20


def test_it_is_what_from_zarr_reads(store):
    other = da.from_zarr(store.path, component="0")
    np.testing.assert_array_equal(store.to_dask().compute(), other.compute())
