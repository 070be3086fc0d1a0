"""MRC files."""

import struct

import mrcfile
import numpy as np
import pytest

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.formats.mrc import angles_beside, open_mrc

DATA = np.arange(-12, 12).reshape(2, 3, 4)


def write(path, data, angstrom=None):
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(data)
        if angstrom is not None:
            mrc.voxel_size = angstrom
    return path


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "float16", "float32"])
def test_boxes_of_every_mode(tmp_path, dtype):
    data = (DATA + (12 if dtype == "uint16" else 0)).astype(dtype)
    source = open_mrc(write(tmp_path / "a.mrc", data, 33.6))
    assert (source.shape, source.dtype) == ((2, 3, 4), dtype)
    assert source.pixel_size_nm == pytest.approx(3.36)
    block = source.read(Box((0, 1, 1), (2, 3, 4)))
    np.testing.assert_array_equal(block, data[:, 1:, 1:].astype(np.float32))
    assert block.dtype == np.float32


def test_no_pixel_size_in_the_header(tmp_path):
    assert open_mrc(write(tmp_path / "a.mrc", DATA.astype(np.float32), 0.0)).pixel_size_nm is None


def test_a_single_image_is_one_section(tmp_path):
    assert open_mrc(write(tmp_path / "a.mrc", DATA[0].astype(np.int16))).shape == (1, 3, 4)


@pytest.mark.parametrize(("flags", "expected"), [(0, 244), (1, -12), (3, -12)])
def test_bytes_are_unsigned_where_imod_says_so(tmp_path, flags, expected):
    path = write(tmp_path / "a.mrc", DATA.astype(np.int8))
    raw = bytearray(path.read_bytes())
    raw[152:160] = struct.pack("<ii", 1146047817, flags)
    path.write_bytes(raw)
    assert open_mrc(path).read(Box((0, 0, 0), (1, 1, 1))) == expected


def test_departures_from_the_standard_are_accepted(tmp_path):
    path = write(tmp_path / "a.mrc", DATA.astype(np.int16))
    raw = bytearray(path.read_bytes())
    raw[208:212] = b"\0\0\0\0"  # the word 'MAP ', which old programs leave out
    path.write_bytes(raw)
    np.testing.assert_array_equal(open_mrc(path).read(Box((0, 0, 0), (2, 3, 4))), DATA)


def test_bad_files(tmp_path):
    with pytest.raises(InputError, match="cannot be read as MRC"):
        open_mrc(tmp_path / "none.mrc")
    (tmp_path / "text.mrc").write_text("hello")
    with pytest.raises(InputError, match="MRC"):
        open_mrc(tmp_path / "text.mrc")
    (tmp_path / "zeros.mrc").write_bytes(bytes(2048))
    with pytest.raises(InputError, match="none empty"):
        open_mrc(tmp_path / "zeros.mrc")
    short = write(tmp_path / "short.mrc", DATA.astype(np.float32))
    short.write_bytes(short.read_bytes()[:-4])
    with pytest.raises(InputError, match="MRC"):
        open_mrc(short)
    with pytest.raises(InputError, match="complex"):
        open_mrc(write(tmp_path / "wave.mrc", DATA.astype(np.complex64)))


def test_refined_angles_win_over_nominal_ones(tmp_path):
    stack = tmp_path / "a.st"
    assert angles_beside(stack) is None
    (tmp_path / "a.st.rawtlt").write_text("1")
    assert angles_beside(stack) == tmp_path / "a.st.rawtlt"
    (tmp_path / "a.rawtlt").write_text("1")
    assert angles_beside(stack) == tmp_path / "a.rawtlt"
    (tmp_path / "a.tlt").write_text("1")
    assert angles_beside(stack) == tmp_path / "a.tlt"
