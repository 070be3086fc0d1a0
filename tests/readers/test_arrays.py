"""NumPy files and angle tables."""

import numpy as np
import pytest

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.readers.arrays import open_npy, open_npz
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
