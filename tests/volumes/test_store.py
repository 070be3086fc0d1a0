"""The result volume: valid OME-Zarr, one writer per shard, and nothing lost in silence."""

import json
import pickle
import resource
import shutil
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tensorstore as ts
import yaozarrs
import zarr

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError, PlanError, StorageError
from ddgm_dist.volumes.layout import VolumeLayout, block_digest
from ddgm_dist.volumes.store import create_volume, open_volume_store

LAYOUT = VolumeLayout(shape=(20, 30, 70), shard=(24, 16, 64), chunk=(8, 8, 16))
SHARDS = [
    Box((0, y0, x0), (20, y1, x1))
    for y0, y1 in ((0, 16), (16, 30))
    for x0, x1 in ((0, 64), (64, 70))
]
WHOLE = Box((0, 0, 0), (20, 30, 70))


@pytest.fixture
def voxels():
    return np.random.default_rng(0).normal(size=(20, 30, 70)).astype(np.float32)


@pytest.fixture
def store(tmp_path):
    return create_volume(tmp_path / "v.zarr", LAYOUT, voxel_size_nm=4.0, name="test")


def fill(store, voxels):
    for box in SHARDS:
        store.write(box, voxels[box.slices()])


def test_shards_make_the_volume_in_every_library(store, voxels):
    fill(store, voxels)
    np.testing.assert_array_equal(store.read(WHOLE), voxels)
    part = Box((3, 10, 50), (9, 20, 70))
    np.testing.assert_array_equal(store.read(part), voxels[part.slices()])
    np.testing.assert_array_equal(zarr.open_group(store.path, mode="r")["0"][:], voxels)
    np.testing.assert_array_equal(da.from_zarr(store.path, component="0").compute(), voxels)
    np.testing.assert_array_equal(store.to_dask()[3:9, 10:20, 50:].compute(), voxels[part.slices()])


def test_zarr_python_writes_what_tensorstore_reads(store, voxels):
    zarr.open_array(f"{store.path}/0", mode="r+")[:] = voxels
    np.testing.assert_array_equal(open_volume_store(store.place).read(WHOLE), voxels)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{store.path}/0/"}}
    np.testing.assert_array_equal(ts.open(spec, open=True).result().read().result(), voxels)


@pytest.mark.parametrize("size", [4.0, None])
def test_metadata_are_valid_ome_zarr(tmp_path, size):
    store = create_volume(
        tmp_path / "v.zarr", LAYOUT, voxel_size_nm=size, name="x", attributes={"run": {"a": 1}}
    )
    yaozarrs.validate_zarr_store(store.path)
    attributes = open_volume_store(store.place).attributes
    assert attributes["run"] == {"a": 1}
    (image,) = attributes["ome"]["multiscales"]
    assert [axis["name"] for axis in image["axes"]] == ["z", "y", "x"]
    assert {axis.get("unit") for axis in image["axes"]} == {None if size is None else "nanometer"}
    (transform,) = image["datasets"][0]["coordinateTransformations"]
    assert transform == {"type": "scale", "scale": [size or 1.0] * 3}
    # Our own folder must not make a walk over the store's members warn.
    assert {name for name, _ in zarr.open_group(store.path, mode="r").members()} == {
        "0",
        "ddgm_dist",
    }


def test_codecs_carry_a_checksum(store):
    metadata = json.loads(Path(store.path, "0", "zarr.json").read_text())
    (sharding,) = metadata["codecs"]
    assert sharding["configuration"]["codecs"] == [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "zstd", "configuration": {"level": 1, "checksum": True}},
    ]


def test_a_missing_shard_reads_as_nan_and_a_written_one_lies_on_disk(store, voxels, tmp_path):
    for box in SHARDS[:-1]:
        store.write(box, np.full(box.shape, np.nan if box is SHARDS[0] else 0.0))
    files = {
        str(f.relative_to(f"{store.path}/0/c"))
        for f in (tmp_path / "v.zarr/0/c").rglob("*")
        if f.is_file()
    }
    assert files == {"0/0/0", "0/0/1", "0/1/0"}
    assert np.isnan(store.read(SHARDS[-1])).all()
    assert (store.read(SHARDS[1]) == 0).all()


def test_a_flipped_bit_is_an_error(store, voxels, tmp_path):
    fill(store, voxels)
    shard = tmp_path / "v.zarr/0/c/0/0/0"
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StorageError, match=r"v\.zarr"):
        open_volume_store(store.place).read(WHOLE)


@pytest.mark.parametrize(
    "box",
    [
        Box((0, 0, 0), (20, 8, 64)),
        Box((0, 8, 0), (20, 30, 64)),
        Box((0, 0, 0), (20, 16, 65)),
        Box((0, 0, 0), (19, 16, 64)),
        Box((0, 0, 0), (24, 16, 64)),
        Box((0, 16, 0), (20, 16, 64)),
        Box((0, 0, -64), (20, 16, 64)),
    ],
)
def test_a_part_of_a_shard_is_refused(store, box):
    with pytest.raises(PlanError, match="whole shards"):
        store.write(box, np.zeros(box.shape))
    assert not LAYOUT.covers_whole_shards(box)


def test_several_whole_shards_are_one_box(store, voxels):
    assert store.write(WHOLE, voxels) == block_digest(voxels)
    np.testing.assert_array_equal(store.read(WHOLE), voxels)


def test_the_digest_is_that_of_what_is_read_back(store, voxels):
    box = SHARDS[0]
    digest = store.write(box, voxels[box.slices()].astype(np.float64))
    assert digest == block_digest(store.read(box))
    other = store.read(box)
    other[0, 0, 0] += 1
    assert block_digest(other) != digest


def test_boxes_and_blocks_must_fit(store):
    with pytest.raises(ValueError, match="shape"):
        store.write(SHARDS[0], np.zeros((1, 16, 64)))
    with pytest.raises(IndexError):
        store.read(Box((0, 0, 0), (20, 31, 70)))
    with pytest.raises(IndexError):
        store.read(Box((0, 0, -1), (20, 30, 70)))


def test_a_store_crosses_process_borders(store, voxels):
    pickle.loads(pickle.dumps(store)).write(WHOLE, voxels)
    np.testing.assert_array_equal(store.read(WHOLE), voxels)
    reader = pickle.loads(pickle.dumps(open_volume_store(store.place)))
    assert reader.layout == LAYOUT
    with pytest.raises(StorageError):
        reader.write(WHOLE, voxels)


def test_a_write_that_fails_names_the_path_and_the_bytes(store, voxels):
    # A limit on the size of files stands for a full disk: both fail in write(2).
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(
            StorageError, match=rf"{voxels.nbytes} bytes to .*v\.zarr.* may not grow"
        ):
            store.write(WHOLE, voxels)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    # What is on disk, not what tensorstore's cache may still hold of the failed write.
    stored = zarr.open_array(str(Path(store.path) / "0"), mode="r")
    # Writes of other chunks may have been under way, and ended well once there was room.
    found = stored[:]
    assert (np.isnan(found) | (found == voxels)).all()
    store.write(WHOLE, voxels)


def test_unusable_layouts_are_refused():
    with pytest.raises(PlanError, match="multiple of the chunk"):
        VolumeLayout((8, 8, 8), (8, 8, 8), (8, 3, 8))
    with pytest.raises(PlanError, match="at least 1"):
        VolumeLayout((8, 0, 8), (8, 8, 8), (8, 8, 8))


def test_bad_outputs_are_refused(tmp_path):
    for size in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="voxel_size_nm"):
            create_volume(tmp_path / "v.zarr", LAYOUT, voxel_size_nm=size, name="")
    with pytest.raises(InputError, match="ome"):
        create_volume(tmp_path / "v.zarr", LAYOUT, voxel_size_nm=1, name="", attributes={"ome": {}})
    assert not (tmp_path / "v.zarr").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="folder cannot be made"):
        create_volume(tmp_path / "file/v.zarr", LAYOUT, voxel_size_nm=1, name="")
    create_volume(tmp_path / "v.zarr", LAYOUT, voxel_size_nm=1, name="")
    with pytest.raises(InputError, match="exists already"):
        create_volume(tmp_path / "v.zarr", LAYOUT, voxel_size_nm=1, name="")


def test_bad_volumes_are_refused(tmp_path, store):
    with pytest.raises(InputError, match="does not exist"):
        open_volume_store(tmp_path / "none.zarr")
    with pytest.raises(InputError, match="not a Zarr store"):
        open_volume_store(tmp_path)
    with pytest.raises(InputError, match="not an OME-Zarr"):
        open_volume_store(store.place / "0")
    shutil.rmtree(f"{store.path}/0")
    with pytest.raises(InputError, match="not an OME-Zarr"):
        open_volume_store(store.place)
    zarr.create_array(f"{store.path}/0", shape=(4, 4), dtype="f4")
    with pytest.raises(InputError, match="not an array"):
        open_volume_store(store.place)
