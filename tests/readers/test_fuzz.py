"""Damaged TIFF and NumPy files: an answer or an error of ours, never another library's."""

import io

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.readers.arrays.numpy_files import open_npy, open_npz
from ddgm_dist.readers.images.stack import open_tiff

DATA = np.arange(2 * 9 * 20, dtype=np.uint16).reshape(2, 9, 20)
CORNER = Box((0, 0, 0), (1, 1, 1))
ONE = Box((1, 5, 7), (2, 7, 19))


def tiff(**options):
    file = io.BytesIO()
    tifffile.imwrite(file, DATA, photometric="minisblack", metadata=None, **options)
    return file.getvalue()


def numpy(save, **options):
    file = io.BytesIO()
    save(file, DATA, **options)
    return file.getvalue()


FILES = {
    "plain.tif": (open_tiff, tiff()),
    "big.tif": (open_tiff, tiff(bigtiff=True, byteorder=">")),
    "lzw.tif": (open_tiff, tiff(compression="lzw", predictor=True, rowsperstrip=4)),
    "zip.tif": (open_tiff, tiff(compression="zlib")),
    "tiled.tif": (open_tiff, tiff(compression="zlib", tile=(16, 16))),
    "a.npy": (open_npy, numpy(np.save)),
    "a.npz": (lambda path: open_npz(path).stack, numpy(np.savez)),
    "b.npz": (lambda path: open_npz(path).stack, numpy(np.savez_compressed)),
}
changes = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=3)


@pytest.mark.parametrize("name", FILES)
@settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(changes=changes, cut=st.one_of(st.none(), st.floats(0, 1)), early=st.booleans())
def test_an_answer_or_an_error_of_ours(tmp_path, name, changes, cut, early):
    reader, whole = FILES[name]
    raw = bytearray(whole)
    for place, byte in changes:
        # Headers are at the start, and often at the end.
        reach = min(len(raw) - 1, 160) if early else len(raw) - 1
        raw[int(place * reach)] = byte
    if cut is not None:
        del raw[int(cut * len(raw)) :]
    path = tmp_path / name
    path.write_bytes(raw)
    said = name
    try:
        stack = reader(path)
        for box in (CORNER, ONE):
            if all(a <= b for a, b in zip(box.stop, stack.shape, strict=True)):
                block = stack.read(box)
                assert (block.shape, block.dtype) == (box.shape, np.float32)
    except (InputError, StorageError) as error:
        said = str(error)
    assert name in said
