"""HDF5 files that cannot be opened, or that change, say why; none reads as zeros."""

import multiprocessing
import os
import pickle
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.array_io import InputReplacedError
from ddgm_dist.readers.hdf5.stack import open_hdf5
from ddgm_dist.readers.provenance import places_of
from tests.readers.hdf5.files import PROJECTIONS, aps, esrf

WHOLE = Box((0, 0, 0), (7, 4, 6))


def refused(says, path):
    with pytest.raises(InputError, match=says) as error:
        open_hdf5(path)
    assert str(path) in str(error.value)


def test_what_is_no_hdf5_says_what_it_looks_like(tmp_path):
    path = tmp_path / "scan.h5"
    refused("does not exist", path)
    path.write_bytes(b"")
    refused("is empty", path)
    np.savez(path.with_suffix(".npz"), PROJECTIONS)
    shutil.move(path.with_suffix(".npz"), path)
    refused("looks like a zip archive", path)
    tifffile.imwrite(path, PROJECTIONS)
    refused("looks like a TIFF file", path)
    with mrcfile.new(tmp_path / "scan.mrc", PROJECTIONS.astype(np.int16)):
        pass
    shutil.move(tmp_path / "scan.mrc", path)
    refused("does not begin as one", path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    refused("a pointer of Git LFS", path)
    path.unlink()
    path.mkdir()
    refused("is a folder", path)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_truncated_files_are_named_as_such(tmp_path, libver):
    with h5py.File(tmp_path / "whole.h5", "w", libver=libver) as file:
        file["data"] = np.ones((7, 40, 60))
    content = (tmp_path / "whole.h5").read_bytes()
    for size in (len(content) - 1, len(content) // 2, 600):
        (tmp_path / "part.h5").write_bytes(content[:size])
        refused(f"truncated: it has {size} bytes of {len(content)}", tmp_path / "part.h5")
    (tmp_path / "part.h5").write_bytes(content[:20])
    with pytest.raises(InputError, match=r"truncated|damaged"):
        open_hdf5(tmp_path / "part.h5")


@pytest.mark.parametrize("swmr", [False, True])
def test_files_that_are_being_written_are_refused(tmp_path, swmr):
    code = (
        "import h5py, numpy, sys\n"
        "file = h5py.File(sys.argv[1], 'w', libver='latest')\n"
        "file['data'] = numpy.ones((7, 4, 6))\n"
        f"file.flush()\nif {swmr}: file.swmr_mode = True\n"
        "print('open', flush=True); sys.stdin.read()\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "scan.h5")]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as writer:
        assert writer.stdout.readline() == "open\n"
        refused("being written" if swmr else "is locked", tmp_path / "scan.h5")
        writer.stdin.close()
        assert writer.wait(timeout=120) == 0
    assert open_hdf5(tmp_path / "scan.h5").stack.shape == (7, 4, 6)


def test_damaged_chunks_are_an_error(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("data", data=PROJECTIONS, chunks=(1, 4, 6), fletcher32=True)
        at = data.id.get_chunk_info(3).byte_offset
    stack = open_hdf5(tmp_path / "a.h5").stack
    np.testing.assert_array_equal(stack.read(WHOLE), PROJECTIONS)
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[at] ^= 255
    (tmp_path / "a.h5").write_bytes(content)
    stack = open_hdf5(tmp_path / "a.h5").stack
    np.testing.assert_array_equal(stack.read(Box((0, 0, 0), (3, 4, 6))), PROJECTIONS[:3])
    with pytest.raises(StorageError, match=r"/data of .*a\.h5"):
        stack.read(WHOLE)


def test_a_file_that_has_changed_is_not_read_on(tmp_path):
    path = aps(tmp_path / "scan.h5")
    found = open_hdf5(path)
    sent = pickle.dumps(found.stack)
    np.testing.assert_array_equal(found.stack.read(WHOLE), PROJECTIONS)
    stat = path.stat()
    aps(tmp_path / "other.h5", data=PROJECTIONS + np.uint16(1)).replace(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    for stack in (found.stack, pickle.loads(sent)):
        with pytest.raises(InputReplacedError, match=r"scan\.h5 has been changed"):
            stack.read(WHOLE)


def test_a_source_that_goes_while_it_is_read_is_no_zero(tmp_path):
    found = open_hdf5(esrf(tmp_path / "scan.nx"))
    sent = pickle.dumps(found.stack)
    (tmp_path / "raw.h5").unlink()
    for stack in (found.stack, pickle.loads(sent)):
        with pytest.raises(InputReplacedError, match=r"raw\.h5 has been changed"):
            stack.read(WHOLE)


def test_more_sources_than_open_files_are_no_zeros(tmp_path):
    """HDF5 reads fill values for the sources that it could not open."""
    layout = h5py.VirtualLayout((90, 4, 6), np.float32)
    for i in range(90):
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            file["data"] = np.full((1, 4, 6), i + 1, np.float32)
        layout[i : i + 1] = h5py.VirtualSource(f"{i}.h5", "data", (1, 4, 6))
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    stack, box = open_hdf5(tmp_path / "all.h5").stack, Box((0, 0, 0), (90, 4, 6))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = sum(1 for _ in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 60, before[1]))
    try:
        with pytest.raises(StorageError, match=r"lies in 91 files.*ulimit -n"):
            stack.read(box)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert stack.read(box).min() == 1


def _sum(stack):
    return float(stack.read(WHOLE).sum())


def test_other_processes_read_the_same(tmp_path):
    stack = open_hdf5(esrf(tmp_path / "scan.nx")).stack
    assert _sum(stack) == PROJECTIONS.sum()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_sum, (stack,)) == PROJECTIONS.sum()


def test_no_output_overwrites_a_file_that_is_read(tmp_path):
    found = open_hdf5(esrf(tmp_path / "scan.nx"))
    assert {tmp_path / "scan.nx", tmp_path / "raw.h5"} <= {*places_of(found.stack)}
