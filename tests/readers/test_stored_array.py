"""Raw arrays in files: any box is what numpy has there, and nothing but the box stays in memory."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.readers import stored_array
from ddgm_dist.readers.mrc.packed_array import PackedArray
from ddgm_dist.readers.stored_array import StoredArray, StoredVolume, file_state

DTYPES = ["i1", "<u2", ">i2", "<f4", ">f4", "<f8", "<i8", ">u8", "f2"]


def stored(path, data, offset=0, fortran=False, tail=b""):
    path.write_bytes(bytes(offset) + data.tobytes("F" if fortran else "C") + tail)
    return StoredArray(
        path.absolute(), str(path), file_state(path), offset, data.dtype, data.shape, fortran
    )


@st.composite
def boxes(draw, shape):
    start = [draw(st.integers(0, n - 1)) for n in shape]
    stop = [draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True)]
    return Box(tuple(start), tuple(stop))


@st.composite
def cases(draw):
    shape = tuple(draw(st.integers(1, 6)) for _ in range(3))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    data = draw(arrays.arrays(dtype, shape, elements=st.integers(0, 100)))
    return data, draw(boxes(shape)), draw(st.booleans()), draw(st.sampled_from([0, 1, 1024]))


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(cases(), st.sampled_from([(2**16, 2**23), (0, 2**23), (2**16, 1), (3, 20)]))
def test_any_box_of_any_layout(tmp_path_factory, case, limits):
    data, box, fortran, offset = case
    path = tmp_path_factory.mktemp("a") / "a.raw"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_array, "_GAP", limits[0])
        patch.setattr(stored_array, "_BUFFER", limits[1])
        block = stored(path, data, offset, fortran).block(box)
    assert block.dtype == data.dtype
    np.testing.assert_array_equal(block, data[box.slices()])


@settings(max_examples=100, derandomize=True, database=None, deadline=None)
@given(st.data())
def test_any_box_of_four_bit_values(tmp_path_factory, data):
    shape = tuple(data.draw(st.integers(1, 6)) for _ in range(3))
    values = data.draw(arrays.arrays(np.uint8, shape, elements=st.integers(0, 15)))
    box = data.draw(boxes(shape))
    packed = PackedArray(stored(tmp_path_factory.mktemp("a") / "a.raw", pack(values)), shape[2])
    assert packed.shape == shape
    np.testing.assert_array_equal(packed.block(box), values[box.slices()])
    np.testing.assert_array_equal(np.concatenate([*packed.pieces()]), values.ravel())


def pack(values):
    """Two in a byte, the first in the low bits; rows end with a whole byte."""
    odd = values.shape[2] % 2
    even = np.pad(values, ((0, 0), (0, 0), (0, odd)), constant_values=9)
    return even[..., 0::2] + 16 * even[..., 1::2]


def test_pieces_are_all_values_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_array, "_PIECE", 7)
    data = np.arange(60, dtype=">i2").reshape(3, 4, 5)
    pieces = list(stored(tmp_path / "a.raw", data, 3).pieces())
    assert {piece.size for piece in pieces} == {7, 4}
    np.testing.assert_array_equal(np.concatenate(pieces), data.ravel())


def test_reads_are_few_where_rows_are_whole(tmp_path, monkeypatch):
    counted = []
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda *a: counted.append(1) or real(*a))
    array = stored(tmp_path / "a.raw", np.zeros((3, 40, 50), np.float32))
    for box, reads in [
        (Box((0, 0, 0), (3, 40, 50)), 1),
        (Box((1, 0, 0), (3, 40, 50)), 1),
        (Box((0, 5, 0), (3, 9, 50)), 3),
        (Box((0, 5, 7), (3, 9, 11)), 3),
        (Box((0, 5, 7), (3, 5, 11)), 0),
    ]:
        counted.clear()
        array.block(box)
        assert len(counted) == reads, box


def test_reads_that_come_back_short_are_continued(tmp_path, monkeypatch):
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, views, at: real(file, [views[0][:5]], at))
    data = np.arange(60, dtype="<i4").reshape(3, 4, 5)
    array = stored(tmp_path / "a.raw", data)
    np.testing.assert_array_equal(array.block(Box((0, 0, 0), (3, 4, 5))), data)


def test_it_is_pickled_without_its_values_and_reads_on_from_any_folder(tmp_path, monkeypatch):
    data = np.arange(6000, dtype="<i4").reshape(10, 20, 30)
    monkeypatch.chdir(tmp_path)
    raw = pickle.dumps(StoredVolume(stored(Path("a.raw"), data), "a.raw"))
    assert len(raw) < 1000
    monkeypatch.chdir("/")
    block = pickle.loads(raw).read(Box((1, 2, 3), (4, 5, 6)))
    np.testing.assert_array_equal(block, data[1:4, 2:5, 3:6])
    assert block.flags.writeable
    assert block.flags.c_contiguous


def test_a_file_that_was_changed_is_refused(tmp_path):
    path = tmp_path / "a.raw"
    array = stored(path, np.zeros((2, 3, 4), np.int16))
    box = Box((0, 0, 0), (1, 1, 1))
    array.block(box)
    size, time = array.state
    os.utime(path, ns=(time, time + 1))
    with pytest.raises(InputError, match=r"a\.raw: was changed while it was in use"):
        array.block(box)
    os.utime(path, ns=(time, time))
    array.block(box)
    path.write_bytes(bytes(size + 1))
    os.utime(path, ns=(time, time))
    with pytest.raises(InputError, match=f"had {size} bytes and has {size + 1}"):
        next(array.pieces())
    path.unlink()
    with pytest.raises(StorageError, match="cannot be opened again"):
        array.block(box)


def test_a_file_that_ends_early_is_no_zeros(tmp_path):
    array = stored(tmp_path / "a.raw", np.zeros((2, 3, 4), np.int16))
    longer = StoredArray(array.path, "a", array.state, 2, array.dtype, array.shape)
    with pytest.raises(StorageError, match="ends at byte 48"):
        longer.block(Box((0, 0, 0), (2, 3, 4)))


BIG = """
import resource, struct, sys
from pathlib import Path
from ddgm_dist.core.box import Box
from ddgm_dist.readers.arrays.numpy_files import open_npy
from ddgm_dist.readers.mrc.volume import open_mrc

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

source = (open_mrc if sys.argv[1].endswith(".mrc") else open_npy)(Path(sys.argv[1]))
assert source.shape == (61, 9344, 8784), source.shape
before = peak()
for k in range(20):
    source.read(Box((0, 200 * k, 0), (61, 200 * k + 2, 8784)))
    source.read(Box((k, 0, 0), (k + 1, 512, 8784)))
    source.read(Box((0, 200 * k, 4000), (61, 200 * k + 2, 8000)))
print(peak() - before)
"""
SHAPE = (61, 9344, 8784)  # 20 GB of float32


def sparse(path):
    if path.suffix == ".npy":
        with path.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": SHAPE}
            np.lib.format.write_array_header_1_0(file, header)
    else:
        words = np.zeros(256, "<i4")
        words[:4], words[16:19] = (*SHAPE[::-1], 2), (1, 2, 3)
        raw = bytearray(words.tobytes())
        raw[208:214] = b"MAP \x44\x44"
        path.write_bytes(raw)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + 4 * int(np.prod(SHAPE)))
    return path


@pytest.mark.parametrize("name", ["a.mrc", "a.npy"])
def test_60_boxes_of_a_file_of_20_gb_take_little_memory(tmp_path, name):
    path = sparse(tmp_path / name)
    found = subprocess.run(
        [sys.executable, "-c", BIG, str(path)], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) < 100 * 2**20  # the largest box takes 17 MB
