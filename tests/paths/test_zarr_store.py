"""zarr-python makes in a bucket what it makes in a folder."""

import asyncio
import pickle
import uuid
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.paths.files import read_bytes
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.zarr_store import ObjectZarr, zarr_store
from ddgm_dist.readers.volumes import open_volume


@pytest.fixture
def url(bucket: str) -> str:
    return f"{bucket}/{uuid.uuid4().hex}/a.zarr"


DATA = np.arange(3 * 10 * 12, dtype=np.int16).reshape(3, 10, 12)


def fill(store: object, version: int = 3, shards: tuple[int, ...] | None = None) -> None:
    group = zarr.create_group(store, zarr_format=version, attributes={"a": 1})
    group.require_group("b/c")
    array = group.create_array(
        "d", shape=DATA.shape, dtype="int16", chunks=(1, 4, 4), shards=shards
    )
    array[...] = DATA


@pytest.mark.parametrize(("version", "shards"), [(2, None), (3, None), (3, (1, 8, 12))])
def test_the_same_lies_there(
    url: str, tmp_path: Path, version: int, shards: tuple[int, ...] | None
) -> None:
    place, folder = locate(url, "out"), tmp_path / "a.zarr"
    fill(zarr_store(place), version, shards)
    fill(zarr_store(folder), version, shards)
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert read_bytes(place / str(path)) == (folder / path).read_bytes()
    group = zarr.open_group(zarr_store(place), mode="r")
    assert sorted(group) == ["b", "d"]
    assert sorted(group["b"]) == ["c"]
    assert "e" not in group
    assert group.attrs.asdict() == {"a": 1}
    np.testing.assert_array_equal(group["d"][...], DATA)
    with pytest.raises(ValueError, match="read-only"):
        group.attrs["a"] = 2


def test_arrays_are_replaced_and_deleted(url: str) -> None:
    place = locate(url, "out")
    fill(zarr_store(place))
    group = zarr.open_group(zarr_store(place), mode="r+")
    group.create_array("d", shape=(2,), dtype="float32", fill_value=np.nan, overwrite=True)
    assert np.isnan(group["d"][...]).all()
    del group["d"]
    assert sorted(group) == ["b"]
    assert read_bytes(place / "d/zarr.json") is None


def test_a_store_crosses_to_other_processes(url: str) -> None:
    store = zarr_store(locate(url, "out"))
    assert isinstance(store, ObjectZarr)
    assert pickle.loads(pickle.dumps(store)) == store
    assert store.with_read_only(True) != store


@pytest.mark.parametrize("shards", [None, (1, 8, 12)])
def test_volumes_of_others_are_read(url: str, shards: tuple[int, ...] | None) -> None:
    fill(zarr_store(locate(url, "out")), shards=shards)
    for path in (url, f"{url}/d"):
        source = open_volume(path)
        box = Box((1, 3, 2), (3, 9, 11))
        np.testing.assert_array_equal(source.read(box), DATA[box.slices()])
    with pytest.raises(InputError, match="is not a Zarr store; other files are read from a disk"):
        open_volume(f"{url}/none.mrc")


def test_keys_are_known_and_parts_of_values_are_read(url: str) -> None:
    store = zarr_store(locate(url, "out"))
    assert isinstance(store, ObjectZarr)

    async def ask() -> None:
        await store.set("a/b", default_buffer_prototype().buffer.from_bytes(b"0123456789"))
        await store.set("a/e", default_buffer_prototype().buffer.from_bytes(b""))
        assert [await store.exists(key) for key in ("a/b", "a/e", "a", "c")] == [
            True,
            True,
            False,
            False,
        ]
        for part, expected in (
            (RangeByteRequest(2, 5), b"234"),
            (OffsetByteRequest(7), b"789"),
            (SuffixByteRequest(2), b"89"),
            (None, b"0123456789"),
        ):
            found = await store.get("a/b", default_buffer_prototype(), part)
            assert found is not None
            assert found.to_bytes() == expected
        assert [key async for key in store.list()] == ["a/b", "a/e"]
        assert [key async for key in store.list_prefix("a/b")] == ["a/b"]
        await store.delete_dir("a")
        assert [key async for key in store.list()] == []

    asyncio.run(ask())
