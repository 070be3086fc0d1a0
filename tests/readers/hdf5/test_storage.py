"""Values that HDF5 would make up are looked for: missing files, gaps and chunks never written."""

import subprocess
import sys

import h5py
import hdf5plugin
import numpy as np
import pytest

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.readers.hdf5.stack import open_hdf5
from tests.readers.hdf5.files import KEY, PROJECTIONS, aps, diamond, esrf, group

WHOLE = Box((0, 0, 0), (7, 4, 6))
FILTERS = {
    "gzip": {"compression": "gzip", "shuffle": True},
    "lzf": {"compression": "lzf"},
    "blosc": hdf5plugin.Blosc(),
    "blosc2": hdf5plugin.Blosc2(),
    "zstd": hdf5plugin.Zstd(),
    "lz4": hdf5plugin.LZ4(),
    "bitshuffle": hdf5plugin.Bitshuffle(),
}


def refused(says, path, dataset=None):
    with pytest.raises(InputError, match=says) as error:
        open_hdf5(path, dataset)
    return str(error.value)


@pytest.mark.parametrize("name", FILTERS)
def test_compressed_images_are_read(tmp_path, name):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=PROJECTIONS, chunks=(2, 3, 6), **FILTERS[name])
    stack = open_hdf5(tmp_path / "a.h5").stack
    assert stack.chunk == (2, 3, 6)
    np.testing.assert_array_equal(stack.read(WHOLE), PROJECTIONS)


def test_a_filter_that_is_not_installed_is_named(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_chunk((1, 4, 6))
        layout.set_filter(32099, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((7, 4, 6))
        h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_FLOAT, space, layout)
    refused("compressed by filter 32099", tmp_path / "a.h5")


def virtual(path, sources, shape=(7, 4, 6), **options):
    layout = h5py.VirtualLayout(shape, np.uint16)
    for part, source in sources:
        layout[part] = source
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("data", layout, **options)
    return path


def raw(path, data, name="data"):
    with h5py.File(path, "w") as file:
        file[name] = data
    return h5py.VirtualSource(path.name, name, data.shape)


def test_virtual_datasets_are_read_through(tmp_path, monkeypatch):
    odd, even = PROJECTIONS[1::2], PROJECTIONS[::2]
    first = raw(tmp_path / "0.h5", even), slice(0, None, 2)
    second = raw(tmp_path / "1.h5", odd), slice(1, None, 2)
    inner = virtual(tmp_path / "inner.h5", [first[::-1], second[::-1]])
    source = h5py.VirtualSource("inner.h5", "data", (7, 4, 6))
    outer = virtual(tmp_path / "outer.h5", [(slice(None), source)])
    monkeypatch.chdir("/")
    for path in (inner, outer):
        found = open_hdf5(path)
        np.testing.assert_array_equal(found.stack.read(WHOLE), PROJECTIONS)
        assert not any("fill values" in note for note in found.notes)
    (tmp_path / "1.h5").unlink()
    for path in (inner, outer):
        assert "fill values" in refused(r"its source 1\.h5 is missing", path)


def test_sources_must_hold_what_is_expected_of_them(tmp_path):
    path = virtual(tmp_path / "v.h5", [(slice(None), raw(tmp_path / "raw.h5", PROJECTIONS))])
    raw(tmp_path / "raw.h5", PROJECTIONS[:5])
    refused(r"raw\.h5:data is smaller than stated", path)
    raw(tmp_path / "raw.h5", PROJECTIONS, "other")
    refused(r"raw\.h5 has no dataset data", path)
    (tmp_path / "raw.h5").write_bytes(b"oops")
    refused("is not an HDF5 file", path)
    part = raw(tmp_path / "raw.h5", PROJECTIONS)[:4]
    path = virtual(tmp_path / "part.h5", [(slice(0, 4), part)])
    assert any("no source covers 72 of its 168 values" in n for n in open_hdf5(path).notes)
    raw(tmp_path / "raw.h5", PROJECTIONS[:3])
    refused("smaller than stated", path)


def test_external_links_name_the_file_that_is_missing(tmp_path):
    path = aps(tmp_path / "a.h5")
    raw(tmp_path / "flats.h5", PROJECTIONS[:3])
    with h5py.File(path, "a") as file:
        del file["exchange/data_white"]
        file["exchange/data_white"] = h5py.ExternalLink("flats.h5", "/data")
    flats = open_hdf5(path).flats
    np.testing.assert_array_equal(flats.read(Box((0, 0, 0), (3, 4, 6))), PROJECTIONS[:3])
    (tmp_path / "flats.h5").unlink()
    refused(r"is a link to /data of the file flats\.h5", path)
    path = diamond(tmp_path / "d.nxs")
    with h5py.File(path, "a") as file:
        del file["entry1/instrument/pco1/data"]
        file["entry1/instrument/pco1/data"] = h5py.ExternalLink("pco1.hdf", "/entry/data/data")
    assert refused(r"of the file pco1\.hdf", path, "entry1/instrument/pco1/data")
    refused("is a link to", path)
    # Another stack of the file is no substitute for the projections.
    with h5py.File(path, "a") as file:
        file["process/volume"] = PROJECTIONS
    refused("is a link to", path)


def test_files_of_raw_values_must_be_whole(tmp_path):
    values = tmp_path / "values.bin"
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset(
            "data", PROJECTIONS.shape, PROJECTIONS.dtype, external=[(str(values), 8, 336)]
        )
    refused("is missing", tmp_path / "a.h5")
    values.write_bytes(bytes(8) + PROJECTIONS.tobytes())
    np.testing.assert_array_equal(open_hdf5(tmp_path / "a.h5").stack.read(WHOLE), PROJECTIONS)
    values.write_bytes(bytes(8) + PROJECTIONS.tobytes()[:-10])
    refused("is truncated: 326 bytes of 336", tmp_path / "a.h5")


def test_images_that_were_never_written_are_counted(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", (7, 4, 6), "u2", chunks=(1, 4, 3))
        file["theta"] = np.linspace(-60, 60, 7)
    refused("nothing was ever written", tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["data"][:4] = 1
    notes = open_hdf5(tmp_path / "a.h5").notes
    assert any("6 of 14 chunks were never written" in note for note in notes)
    assert any("3 of 7 images have none, 4 to 6" in note for note in notes)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("data", (7, 4, 6), "u2")
    refused("nothing was ever written", tmp_path / "b.h5")


def test_whole_files_have_no_such_notes(tmp_path):
    for path in (esrf(tmp_path / "a.nx"), diamond(tmp_path / "b.nxs"), aps(tmp_path / "c.h5")):
        assert not any("fill" in note or "written" in note for note in open_hdf5(path).notes)


def test_angles_in_a_virtual_dataset_are_no_zeros(tmp_path):
    path = esrf(tmp_path / "a.nx")
    with h5py.File(path, "a") as file:
        sample = group(file, "entry0000/sample", "NXsample")
        del sample["rotation_angle"]
        layout = h5py.VirtualLayout((len(KEY),), np.float64)
        layout[:] = h5py.VirtualSource("motors.h5", "srot", (len(KEY),))
        sample.create_virtual_dataset("rotation_angle", layout)
    refused(r"its source motors\.h5 is missing", path)


def test_what_is_not_used_may_be_missing(tmp_path):
    path = esrf(tmp_path / "a.nx")
    with h5py.File(path, "a") as file:
        layout = h5py.VirtualLayout((len(KEY),), np.float64)
        layout[:] = h5py.VirtualSource("motors.h5", "sx", (len(KEY),))
        file["entry0000/sample"].create_virtual_dataset("y_translation", layout)
        file["entry0000/sample/z_translation"] = h5py.ExternalLink("motors.h5", "/sz")
    notes = open_hdf5(path).notes
    for name, why in (
        ("y_translation", "its source motors.h5 is missing"),
        ("z_", "a broken link"),
    ):
        assert any(name in note and why in note for note in notes)


def test_sources_may_be_numbered(tmp_path):
    """One name with ``%b`` stands for as many files as there are; the first must be there."""
    for i in range(3):
        raw(tmp_path / f"part_{i}.h5", PROJECTIONS[2 * i : 2 * i + 2])
    endless, (rows, columns) = h5py.h5s.UNLIMITED, PROJECTIONS.shape[1:]
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        space = h5py.h5s.create_simple((6, rows, columns), (endless, rows, columns))
        space.select_hyperslab((0, 0, 0), (endless, 1, 1), (2, 1, 1), (2, rows, columns))
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        inner = h5py.h5s.create_simple((2, rows, columns))
        layout.set_virtual(space, b"part_%b.h5", b"data", inner)
        whole = h5py.h5s.create_simple((6, rows, columns), (endless, rows, columns))
        h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_UINT16, whole, layout)
    box = Box((0, 0, 0), (6, 4, 6))
    np.testing.assert_array_equal(open_hdf5(tmp_path / "a.h5").stack.read(box), PROJECTIONS[:6])
    (tmp_path / "part_1.h5").unlink()
    refused(r"its source part_1\.h5 is missing", tmp_path / "a.h5")
    (tmp_path / "part_2.h5").unlink()
    assert open_hdf5(tmp_path / "a.h5").stack.shape == (2, 4, 6)
    (tmp_path / "part_0.h5").unlink()
    refused(r"its source part_0\.h5 is missing", tmp_path / "a.h5")


def test_what_no_filter_needs_is_not_imported(tmp_path):
    for name in ("gzip", "zstd"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.create_dataset("data", data=PROJECTIONS, **FILTERS[name])
        code = (
            "import sys, pathlib, ddgm_dist.readers.hdf5.stack as hdf5\n"
            "hdf5.open_hdf5(pathlib.Path(sys.argv[1]))\n"
            "print('hdf5plugin' in sys.modules)"
        )
        words = [sys.executable, "-c", code, str(tmp_path / f"{name}.h5")]
        done = subprocess.run(words, check=True, timeout=300, capture_output=True, text=True)
        assert done.stdout == f"{name == 'zstd'}\n"
