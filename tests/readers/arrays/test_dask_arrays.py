"""A dask array as a volume: the same voxels, and no more chunks than a box touches."""

import pickle

import dask.array as da
import numpy as np
import pytest

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.readers.arrays.dask_arrays import DaskVolume, is_dask_array
from ddgm_dist.readers.base import VolumeSource

DATA = np.random.default_rng(0).integers(0, 255, size=(6, 8, 10)).astype(np.uint8)
PART = Box((1, 2, 3), (5, 8, 9))


@pytest.mark.parametrize("scheduler", [None, "sync"])
def test_a_box_is_that_of_the_array_as_float32(scheduler):
    volume = DaskVolume(da.from_array(DATA, chunks=(4, 3, 5)), "v", scheduler)
    assert isinstance(volume, VolumeSource)
    assert (volume.shape, volume.dtype, volume.chunk) == ((6, 8, 10), np.uint8, (4, 3, 5))
    block = volume.read(PART)
    np.testing.assert_array_equal(block, DATA[PART.slices()])
    assert block.dtype == np.float32
    assert block.flags.writeable
    assert block.flags.c_contiguous


def test_only_the_chunks_of_the_box_are_computed():
    seen = []

    def chunk(block_info=None):
        place = block_info[None]["array-location"]
        seen.append(tuple(start for start, _ in place))
        return DATA[tuple(slice(*ends) for ends in place)]

    chunks = ((3, 3), (4, 4), (5, 5))
    lazy = da.map_blocks(chunk, chunks=chunks, dtype=DATA.dtype, meta=DATA[:0])
    seen.clear()
    DaskVolume(lazy, "v").read(Box((0, 5, 0), (3, 6, 10)))
    assert sorted(seen) == [(0, 4, 0), (0, 4, 5)]


def test_it_crosses_process_borders():
    volume = pickle.loads(pickle.dumps(DaskVolume(da.from_array(DATA, chunks=3) * 2.0, "v")))
    np.testing.assert_array_equal(volume.read(PART), DATA[PART.slices()] * 2.0)


def test_boxes_must_lie_within():
    with pytest.raises(IndexError):
        DaskVolume(da.from_array(DATA), "v").read(Box((0, 0, 0), (6, 9, 10)))


@pytest.mark.parametrize(
    "array",
    [
        da.from_array(DATA[0]),
        da.from_array(DATA).astype(complex),
        da.from_array(DATA)[da.from_array(DATA)[:, 0, 0] > 100],
        da.zeros((3, 0, 4)),
    ],
    ids=["two axes", "complex", "unknown extent", "empty"],
)
def test_what_is_no_volume_is_refused(array):
    with pytest.raises(InputError):
        DaskVolume(array, "v")


def test_dask_arrays_are_known():
    assert is_dask_array(da.from_array(DATA))
    assert not is_dask_array(DATA)
