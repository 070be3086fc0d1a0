"""NumPy files and angle tables."""

import pickle
import zipfile

import numpy as np
import pytest

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.readers.arrays import numpy_files
from ddgm_dist.readers.arrays.numpy_files import open_npy, open_npz
from ddgm_dist.readers.base import ArrayVolume, VolumeSource

DATA = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)


def test_npy_is_read_by_box(tmp_path):
    np.save(tmp_path / "a.npy", DATA)
    source = open_npy(tmp_path / "a.npy")
    assert isinstance(source, VolumeSource)
    assert (source.shape, source.dtype) == ((2, 3, 4), np.int16)
    box = Box((1, 0, 2), (2, 2, 4))
    block = source.read(box)
    np.testing.assert_array_equal(block, DATA[1:2, 0:2, 2:4])
    assert block.dtype == np.float32
    assert block.flags.writeable
    with pytest.raises(IndexError):
        source.read(Box((0, 0, 0), (2, 3, 5)))
    with pytest.raises(IndexError):
        source.read(Box((0, 0, -1), (2, 3, 4)))


def test_reading_never_hands_out_the_data_themselves():
    data = np.zeros((2, 2, 2), np.float32)
    ArrayVolume(data).read(Box((0, 0, 0), (2, 2, 2)))[:] = 1
    assert not data.any()


def test_npz_with_everything(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        data=DATA,
        other=DATA + 1,
        angles=[-3, 4.5],
        shifts_px=[[0, 1], [2, 3.5]],
        pixel_size_nm=2.5,
        thickness_px=7,
        dark_level=11,
    )
    npz = open_npz(tmp_path / "a.npz")
    np.testing.assert_array_equal(npz.stack.read(Box((0, 0, 0), DATA.shape)), DATA)
    assert npz.angles_deg == (-3.0, 4.5)
    assert npz.shifts_px == ((0, 1), (2, 3.5))
    assert (npz.pixel_size_nm, npz.thickness_px, npz.dark_level) == (2.5, 7, 11)


def test_npz_with_one_unnamed_stack(tmp_path):
    np.savez(tmp_path / "a.npz", mine=DATA, flat=DATA[0])
    npz = open_npz(tmp_path / "a.npz")
    assert npz.stack.shape == (2, 3, 4)
    assert (npz.angles_deg, npz.shifts_px, npz.pixel_size_nm, npz.thickness_px) == (None,) * 4
    assert npz.dark_level == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"a": DATA, "b": DATA}, "which of its arrays"),
        ({"a": DATA[0]}, "which of its arrays"),
        ({"projections": DATA[0]}, "three axes"),
        ({"projections": DATA[:0]}, "three axes"),
        ({"projections": DATA + 1j}, "complex"),
        ({"projections": DATA, "angles_deg": [["a"]]}, "list of numbers"),
        ({"projections": DATA, "pixel_size_nm": [1.0, 2.0]}, "one number"),
        ({"projections": DATA, "shifts_px": [1.0, 2.0]}, "dy, dx"),
        ({"projections": np.array([object()] * 8).reshape(2, 2, 2)}, "cannot be read"),
    ],
)
def test_npz_that_cannot_be_used(tmp_path, content, says):
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(InputError, match=says):
        open_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("reader", [open_npy, open_npz])
def test_damaged_files(tmp_path, reader):
    with pytest.raises(InputError, match="cannot be read"):
        reader(tmp_path / "none")
    for content in (b"", b"PK\x03\x04oops", b"hello", b"\x93NUMPY\x01\x00"):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            reader(tmp_path / "bad")


def test_archives_are_told_from_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", a=DATA)
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(InputError, match="cannot be read"):
        open_npy(tmp_path / "a.npy")
    with (tmp_path / "b.npz").open("wb") as file:
        np.save(file, DATA)
    with pytest.raises(InputError, match="cannot be read"):
        open_npz(tmp_path / "b.npz")


WHOLE = Box((0, 0, 0), (2, 3, 4))
DTYPES = ["i1", "u1", ">i2", "<u2", ">i4", "u4", "<i8", ">u8", "f2", ">f4", "<f8", ">f8", "g"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", "CF")
def test_any_dtype_order_and_byte_order(tmp_path, dtype, order):
    data = np.asarray(DATA.astype(dtype), order=order)
    np.save(tmp_path / "a.npy", data)
    np.savez(tmp_path / "a.npz", projections=data)
    for opened in (open_npy(tmp_path / "a.npy"), open_npz(tmp_path / "a.npz").stack):
        source = pickle.loads(pickle.dumps(opened))
        assert source.dtype == data.dtype
        np.testing.assert_array_equal(source.read(WHOLE), DATA)
        box = Box((1, 0, 2), (2, 2, 4))
        np.testing.assert_array_equal(source.read(box), DATA[box.slices()])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (DATA > 3, "bool, which are not real numbers"),
        (DATA + 1j, "complex"),
        (DATA.astype("U3"), "not real numbers"),
        (DATA.astype("M8[s]"), "not real numbers"),
        (DATA.astype([("a", "i4")]), "not real numbers"),
        (np.array([object()] * 8).reshape(2, 2, 2), "object|pickled"),
        (DATA[0], "three axes"),
        (DATA[None], "three axes"),
        (DATA[:, :0], "three axes"),
    ],
)
def test_what_is_no_stack_of_numbers(tmp_path, data, says):
    np.save(tmp_path / "a.npy", data)
    np.savez(tmp_path / "a.npz", projections=data)
    for reader, name in ((open_npy, "a.npy"), (open_npz, "a.npz")):
        with pytest.raises(InputError, match=says):
            reader(tmp_path / name)


def test_values_beyond_float32_are_refused_as_they_are_read(tmp_path):
    np.save(tmp_path / "a.npy", np.where(DATA == 7, 1e300, 0.0))
    with pytest.raises(InputError, match=r"1e\+300 at \(0, 1, 3\)"):
        open_npy(tmp_path / "a.npy").read(WHOLE)


def test_npy_cut_short_or_with_more_behind(tmp_path, caplog):
    path = tmp_path / "a.npy"
    np.save(path, DATA)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="cut short: 1 of 48 bytes are missing"):
        open_npy(path)
    path.write_bytes(whole + whole)
    with pytest.raises(InputError, match="several arrays one after another"):
        open_npy(path)
    path.write_bytes(whole + b"\n")
    np.testing.assert_array_equal(open_npy(path).read(WHOLE), DATA)
    assert "1 bytes follow its array" in caplog.text
    path.write_bytes(whole.replace(b"(2, 3, 4)", b"(-2,3,-4)"))
    with pytest.raises(InputError, match=r"cannot be read as .npy"):
        open_npy(path)


def test_mislabelled_files_say_what_they_are(tmp_path):
    np.savez(tmp_path / "a.npy.npz", DATA)
    (tmp_path / "a.npy.npz").rename(tmp_path / "a.npy")
    with pytest.raises(InputError, match=r"ZIP archive, as .npz files are, whatever its name"):
        open_npy(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", DATA)
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    with pytest.raises(InputError, match="NumPy array, whatever its name"):
        open_npz(tmp_path / "b.npz")


def test_the_caller_chooses_among_stacks_and_a_choice_is_said(tmp_path, caplog):
    path = tmp_path / "a.npz"
    np.savez(path, raw=DATA, aligned=DATA + 1, angles_deg=[1, 2], notes=np.array([object()]))
    assert open_npz(path, "raw").key == "raw"
    assert not caplog.text
    np.testing.assert_array_equal(open_npz(path, "raw").stack.read(WHOLE), DATA)
    found = open_npz(path)
    assert (found.key, found.others) == ("aligned", ("raw",))
    assert "reads 'aligned', and not 'raw'" in caplog.text
    np.testing.assert_array_equal(found.stack.read(WHOLE), DATA + 1)
    with pytest.raises(InputError, match=r"key = tilts: is not in .*'raw': \(2, 3, 4\)"):
        open_npz(path, "tilts")
    with pytest.raises(InputError, match="three axes"):
        open_npz(path, "angles_deg")


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("prefix", [b"", b"#!/bin/sh\n"])
def test_large_arrays_are_read_from_within_the_archive(tmp_path, monkeypatch, order, prefix):
    monkeypatch.setattr(numpy_files, "_IN_MEMORY", 0)
    path = tmp_path / "a.npz"
    np.savez(path, first=np.zeros(7), projections=np.asarray(DATA, order=order))
    path.write_bytes(prefix + path.read_bytes())
    monkeypatch.setattr(numpy_files, "_load", None)
    stack = pickle.loads(pickle.dumps(open_npz(path).stack))
    np.testing.assert_array_equal(stack.read(WHOLE), DATA)
    assert len(pickle.dumps(stack)) < 1000


def test_damaged_members_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    for save in (np.savez, np.savez_compressed):
        save(path, projections=DATA * 999, angles=[1, 2])
        whole = path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            at = archive.infolist()[0].header_offset + 180
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        with pytest.raises(InputError, match=r"cannot be read as .npz"):
            open_npz(path)
        path.write_bytes(whole[:-30])
        with pytest.raises(InputError, match=r"cannot be read as .npz"):
            open_npz(path)
