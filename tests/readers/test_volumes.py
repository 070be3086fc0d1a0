"""One function opens every kind of volume, and all read the same voxels."""

import dask.array as da
import mrcfile
import numpy as np
import pytest
import tifffile
import zarr
from skimage import io

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.readers.arrays.dask_arrays import DaskVolume
from ddgm_dist.readers.provenance import places_of
from ddgm_dist.readers.volumes import VolumeSource, open_volume
from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series
from ddgm_dist.volumes.layout import VolumeLayout
from ddgm_dist.volumes.store import create_volume

DATA = np.random.default_rng(0).integers(0, 255, size=(6, 8, 10)).astype(np.uint8)
WHOLE = Box((0, 0, 0), (6, 8, 10))
PART = Box((1, 2, 3), (5, 8, 9))


def as_npy(path):
    np.save(path / "v.npy", DATA)
    return path / "v.npy"


def as_mrc(path):
    with mrcfile.new(path / "v.rec") as mrc:
        mrc.set_data(DATA.astype(np.int16))
    return path / "v.rec"


def as_images(path):
    (path / "v").mkdir()
    for z, image in enumerate(DATA):
        io.imsave(path / f"v/{z}.png", image, check_contrast=False)
    return path / "v"


def as_array(path, zarr_format=3):
    zarr.create_array(str(path / "v.zarr"), data=DATA, chunks=(4, 4, 4), zarr_format=zarr_format)
    return path / "v.zarr"


def as_array_v2(path):
    return as_array(path, 2)


def as_group(path):
    group = zarr.create_group(str(path / "v.zarr"))
    group.create_array("em", data=DATA)
    group.create_array("table", data=DATA[0])
    return path / "v.zarr"


def as_ome_05(path):
    layout = VolumeLayout(DATA.shape, (6, 8, 12), (3, 4, 4))
    store = create_volume(path / "v.zarr", layout, voxel_size_nm=1, name="v")
    store.write(WHOLE, DATA)
    zarr.create_array(f"{store.path}/1", data=DATA[::2])
    return path / "v.zarr"


def as_ome_04_with_channels(path):
    group = zarr.create_group(str(path / "v.zarr"), zarr_format=2)
    group.create_array("s0", data=DATA[None, None])
    group.create_array("s1", data=DATA[None, None, ::2])
    group.attrs["multiscales"] = [{"version": "0.4", "datasets": [{"path": "s0"}, {"path": "s1"}]}]
    return path / "v.zarr"


KINDS = [
    as_npy,
    as_mrc,
    as_images,
    as_array,
    as_array_v2,
    as_group,
    as_ome_05,
    as_ome_04_with_channels,
]


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_read_the_same(tmp_path, kind):
    source = open_volume(str(kind(tmp_path)))
    assert isinstance(source, VolumeSource)
    assert source.shape == DATA.shape
    for box in (WHOLE, PART):
        block = source.read(box)
        np.testing.assert_array_equal(block, DATA[box.slices()])
        assert block.dtype == np.float32
        assert block.flags.writeable
    for outside in (Box((0, 0, 0), (7, 8, 10)), Box((0, -1, 0), (6, 8, 10))):
        with pytest.raises(IndexError):
            source.read(outside)


def refused(path, says):
    with pytest.raises(InputError, match=says) as error:
        open_volume(path)
    assert str(path) in str(error.value)


def test_what_is_no_volume_is_refused(tmp_path):
    refused(tmp_path / "none.zarr", "does not exist")
    (tmp_path / "a.txt").write_text("")
    refused(tmp_path / "a.txt", "is not a Zarr store, an MRC file")
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr/zarr.json").write_text("{")
    refused(tmp_path / "broken.zarr", "not a Zarr store")
    group = zarr.create_group(str(tmp_path / "g.zarr"))
    refused(tmp_path / "g.zarr", "0 arrays of three axes")
    group.create_array("a", data=DATA)
    group.create_array("b", data=DATA)
    refused(tmp_path / "g.zarr", "2 arrays of three axes")
    group.attrs["ome"] = {"multiscales": [{"datasets": [{"path": "c"}]}]}
    refused(tmp_path / "g.zarr", "level 'c'")
    group.create_group("c")
    refused(tmp_path / "g.zarr", "level 'c' is not an array")
    zarr.create_array(str(tmp_path / "rgb.zarr"), data=np.stack([DATA] * 3))
    refused(tmp_path / "rgb.zarr", "others of extent 1")
    zarr.create_array(str(tmp_path / "wave.zarr"), data=DATA + 1j)
    refused(tmp_path / "wave.zarr", "complex")


def test_a_tilt_series_is_not_a_volume(tmp_path):
    meta = TiltSeriesMeta(tuple(range(6)))
    write_tilt_series(tmp_path / "t.zarr", DATA, meta)
    refused(tmp_path / "t.zarr", "tilt series")


def test_damaged_chunks_are_an_error(tmp_path):
    path = as_array(tmp_path)
    (path / "c/0/0/0").write_bytes(b"oops")
    with pytest.raises(StorageError, match=r"v\.zarr"):
        open_volume(path).read(PART)


@pytest.mark.parametrize("kind", ["npy", "zarr", "dask", "images"])
def test_values_beyond_float32_are_refused_with_their_place(tmp_path, kind):
    data = DATA.astype(np.float64)
    data[2, 5, 7] = 4e40
    if kind == "npy":
        np.save(tmp_path / "v.npy", data)
        source, at = open_volume(tmp_path / "v.npy"), r"\(2, 5, 7\)"
    elif kind == "zarr":
        zarr.create_array(str(tmp_path / "v.zarr"), data=data, chunks=(4, 4, 4))
        source, at = open_volume(tmp_path / "v.zarr"), r"\(2, 5, 7\)"
    elif kind == "dask":
        source, at = DaskVolume(da.from_array(data, chunks=4), "v", "sync"), r"\(2, 5, 7\)"
    else:
        (tmp_path / "v").mkdir()
        for z, image in enumerate(data):
            tifffile.imwrite(tmp_path / f"v/{z}.tif", image)
        source, at = open_volume(tmp_path / "v"), r"\(5, 7\)"
    with pytest.raises(InputError, match=rf"4e\+40 at ({at})"):
        source.read(PART)
    np.testing.assert_array_equal(source.read(Box((3, 0, 0), (6, 8, 10))), data[3:])


def test_a_tiff_file_of_several_pages(tmp_path):
    data = DATA.astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack", compression="zlib")
    volume = open_volume(tmp_path / "a.tif")
    assert volume.shape == data.shape
    np.testing.assert_array_equal(volume.read(Box((0, 0, 0), data.shape)), data)
    assert places_of(volume)[0] == (tmp_path / "a.tif").resolve()
