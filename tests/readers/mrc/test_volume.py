"""MRC files."""

import bz2
import gzip
import itertools
import lzma
import pickle
import struct

import mrcfile
import numpy as np
import pytest

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.readers.mrc.volume import open_mrc

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


def patch(path, **fields):
    """Overwrite fields of a header by name; `order` is its byte order."""
    order = fields.pop("order", "<")
    raw = bytearray(path.read_bytes())
    for name, value in fields.items():
        offset, code = FIELDS[name]
        values = value if isinstance(value, tuple) else (value,)
        struct.pack_into(f"{order}{len(values)}{code}", raw, offset, *values)
    path.write_bytes(raw)
    return path


def read(path):
    source = open_mrc(path)
    block = source.read(Box((0, 0, 0), source.shape))
    assert block.dtype == np.float32
    return block


def refused(path, says):
    with pytest.raises(InputError, match=says) as error:
        open_mrc(path)
    assert str(path) in str(error.value)


FIELDS = {
    "size": (0, "i"),
    "mode": (12, "i"),
    "sampling": (28, "i"),
    "cell": (40, "f"),
    "axes": (64, "i"),
    "statistics": (76, "f"),
    "space_group": (88, "i"),
    "extended": (92, "i"),
    "extended_type": (104, "4s"),
    "version": (108, "i"),
    "imod": (152, "i"),
    "stamp": (212, "B"),
    "labels": (220, "i"),
    "label": (224, "80s"),
    "label_2": (304, "80s"),
}
OPEN = (0.0, -1.0, -2.0)  # statistics that are not known, as MRC2014 has it


def as_bytes(path, values, **fields):
    """A file of mode 0 with the given values, as bytes of either sign."""
    return patch(write(path, np.asarray(values).astype(np.uint8).view(np.int8)), **fields)


IMAGE = np.array([0, 3, 100, 127, 128, 200, 255, 17], np.uint8).reshape(1, 2, 4)


def test_bytes_that_imod_signed_get_128_back(tmp_path, caplog):
    # IMOD writes value - 128 and its flag, and adds 128 when it reads.
    stored = (IMAGE.astype(int) - 128).astype(np.int8)
    path = patch(write(tmp_path / "a.mrc", stored), imod=(1146047817, 1))
    source = open_mrc(path)
    np.testing.assert_array_equal(read(path), IMAGE)
    assert source.dtype == np.uint8
    assert "128 is added" in caplog.text


def test_bytes_that_imod_did_not_sign_are_unsigned(tmp_path):
    path = as_bytes(tmp_path / "a.mrc", IMAGE, imod=(1146047817, 4), statistics=(0.0, 255.0, 90.0))
    np.testing.assert_array_equal(read(path), IMAGE)


@pytest.mark.parametrize(
    ("statistics", "version", "low"),
    [
        ((0.0, 255.0, 103.75), 0, 0),
        ((-128.0, 127.0, 7.75), 0, -128),
        (OPEN, 20140, -128),  # what MRC2014 says of bytes
        ((0.0, 0.0, 0.0), 20141, -128),
        ((-5.0, 1e6, 7.0), 20140, -128),  # of other pixels
    ],
)
def test_bytes_without_a_mark_are_what_the_header_can_mean(
    tmp_path, caplog, statistics, version, low
):
    path = as_bytes(tmp_path / "a.mrc", IMAGE, statistics=statistics, version=version)
    expected = IMAGE if low == 0 else IMAGE.view(np.int8)
    np.testing.assert_array_equal(read(path), expected)
    assert ("sign" in caplog.text) == (statistics != (0.0, 255.0, 103.75))


@pytest.mark.parametrize("version", [0, 20140])
@pytest.mark.parametrize("statistics", [(0.0, 100.0, 30.0), (3.0, 127.0, 50.0), (5.0, 5.0, 5.0)])
def test_bytes_that_the_statistics_contradict_of_either_sign_are_refused(
    tmp_path, version, statistics
):
    path = as_bytes(tmp_path / "a.mrc", IMAGE, statistics=statistics, version=version)
    refused(path, "below 0 or above 127, but its header states values from")
    # Below 128 it makes no difference.
    path = as_bytes(tmp_path / "a.mrc", IMAGE // 2, statistics=statistics, version=version)
    np.testing.assert_array_equal(read(path), IMAGE // 2)


def test_bytes_that_may_be_either_are_refused_unless_it_makes_no_difference(tmp_path):
    for statistics in (OPEN, (-5.0, 200.0, 7.0)):
        path = as_bytes(tmp_path / "a.mrc", IMAGE, statistics=statistics, version=0)
        refused(path, "whether they are signed")
        path = as_bytes(tmp_path / "a.mrc", IMAGE // 2, statistics=statistics, version=0)
        np.testing.assert_array_equal(read(path), IMAGE // 2)


@pytest.mark.parametrize(
    ("flag", "statistics"), [(0, (-12.0, 11.0, 0.0)), (1, (0.0, 255.0, 100.0))]
)
def test_a_mark_that_the_statistics_contradict_is_refused(tmp_path, flag, statistics):
    path = as_bytes(tmp_path / "a.mrc", IMAGE, imod=(1146047817, flag), statistics=statistics)
    refused(path, "signed, but its header states values")


def test_words_of_the_other_sign_are_seen_by_their_statistics(tmp_path, caplog):
    wide = np.array([0, 5, 40000, 65535], np.uint16).reshape(1, 2, 2)
    path = patch(write(tmp_path / "a.mrc", wide), mode=1)
    np.testing.assert_array_equal(read(path), wide)
    assert "unsigned, as its statistics show" in caplog.text
    refused(patch(path, statistics=(0.0, 50000.0, 7.0)), "mode 1, but its header states")
    np.testing.assert_array_equal(read(patch(path, statistics=OPEN)), wide.view(np.int16))
    negative = np.array([-7, 5, 300, 2], np.int16).reshape(1, 2, 2)
    path = patch(write(tmp_path / "b.mrc", negative), mode=6)
    np.testing.assert_array_equal(read(path), negative)


STACK = np.random.default_rng(0).normal(size=(3, 16, 32)).astype(np.float32)
EXTRA = bytes(range(256)) * 4


def extended(path, data, extra=EXTRA, tail=b"", **fields):
    """A file with an extended header, which the fields may deny."""
    raw = write(path, data).read_bytes()
    path.write_bytes(raw[:1024] + extra + raw[1024:] + tail)
    return patch(path, **{"extended": len(extra), **fields})


@pytest.mark.parametrize("stated", [0, -1])
def test_an_extended_header_that_is_misstated_shifts_nothing(tmp_path, caplog, stated):
    path = extended(tmp_path / "a.mrc", STACK, extended=stated)
    np.testing.assert_array_equal(read(path), STACK)
    assert "read from byte 2048 on" in caplog.text
    low, high = float(STACK.min()), float(STACK.max())
    for statistics in (OPEN, (low, high, low - 1)):  # without a mean, the range is not enough
        refused(patch(path, statistics=statistics), "do not tell where the pixels begin")


@pytest.mark.parametrize("kind", [b"SERI", b""])
def test_where_both_fit_the_type_of_the_extended_header_decides(tmp_path, kind):
    # A border of zeros, and an extended header of zeros: the statistics are the same from both.
    data = np.zeros((3, 16, 32), np.float32)
    data[1] = STACK[1]
    path = extended(tmp_path / "a.mrc", data, bytes(1024), extended=0, extended_type=kind)
    if kind:
        np.testing.assert_array_equal(read(path), data)
    else:
        refused(path, "do not tell where the pixels begin")


def test_an_extended_header_that_is_not_there(tmp_path, caplog):
    path = extended(tmp_path / "a.mrc", STACK, b"", extended=1024)
    np.testing.assert_array_equal(read(path), STACK)
    assert "read from byte 1024 on" in caplog.text
    # It may also be one of 1024 bytes, and a file that was cut short.
    for stated in (1024, -5):
        refused(patch(path, statistics=OPEN, extended=stated), "cut short")


def test_a_size_of_the_extended_header_that_is_wrong_twice_is_refused(tmp_path):
    for stated in (1, 512, 80):
        refused(extended(tmp_path / "a.mrc", STACK, extended=stated), "where the pixels begin")
    # One that is denied, and bytes at the end: zeros at both ends leave the statistics as they are.
    data = np.zeros((3, 16, 32), np.float32)
    data[1] = STACK[1]
    path = extended(tmp_path / "b.mrc", data, bytes(1024), bytes(80), extended=0)
    refused(patch(path, extended_type=b"SERI"), "where the pixels begin")


@pytest.mark.parametrize("extra", [b"", EXTRA])
def test_bytes_after_the_pixels_shift_nothing(tmp_path, caplog, extra):
    path = extended(tmp_path / "a.mrc", STACK, extra, tail=bytes(512))
    np.testing.assert_array_equal(read(path), STACK)
    assert f"read from byte {1024 + len(extra)} on" in caplog.text
    refused(patch(path, statistics=OPEN), "do not tell where the pixels begin")


@pytest.mark.parametrize("extra", [b"", EXTRA])
@pytest.mark.parametrize("tail", [bytes(range(120)), EXTRA[:80], b"\n", b"a note\n", EXTRA[1:192]])
def test_bytes_of_any_kind_after_the_pixels_shift_nothing(tmp_path, caplog, extra, tail):
    path = extended(tmp_path / "a.mrc", STACK, extra, tail=tail)
    np.testing.assert_array_equal(read(path), STACK)
    assert f"read from byte {1024 + len(extra)} on, by its statistics" in caplog.text
    # As many as a face of the volume may be pixels, of sizes that are too small by one.
    path = extended(tmp_path / "b.mrc", STACK, extra, tail=EXTRA[:192])
    refused(path, "do not tell where the pixels begin")


@pytest.mark.parametrize("statistics", [OPEN, (-9.0, 9.0, -10.0), (0.0, 0.0, 0.0)])
def test_a_line_end_after_the_pixels_needs_no_statistics(tmp_path, caplog, statistics):
    for extra in (b"", EXTRA):
        for tail in (b"\n", b"\r\n"):
            caplog.clear()
            path = extended(tmp_path / "a.mrc", STACK, extra, tail=tail, statistics=statistics)
            np.testing.assert_array_equal(read(path), STACK)
            assert f"read from byte {1024 + len(extra)} on, by what follows" in caplog.text
        # These may be an extended header that is denied, or pixels.
        for tail in (bytes(1), bytes(80), bytes(1024), b"\n" * 80, b"ab", b"\n\n"):
            path = extended(tmp_path / "a.mrc", STACK, extra, tail=tail, statistics=statistics)
            refused(path, "do not tell where the pixels begin")


def test_a_file_cut_short_is_refused_whatever_its_extended_header(tmp_path):
    path = extended(tmp_path / "a.mrc", STACK)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1024])
    refused(path, "cut short")
    for bytes_lost in (4, 1020, 1028):
        path.write_bytes(whole[:-bytes_lost])
        refused(path, "shorter than its header says")
    refused(patch(path, extended=-4), "shorter than its header says")  # as many as are missing


@pytest.mark.parametrize("axes", list(itertools.permutations((1, 2, 3))))
def test_axes_are_put_in_order(tmp_path, axes):
    columns, rows, sections = (3 - axis for axis in axes)  # places in (z, y, x)
    path = patch(write(tmp_path / "a.mrc", STACK.transpose(sections, rows, columns)), axes=axes)
    np.testing.assert_array_equal(read(path), STACK)
    source = open_mrc(path)
    assert source.shape == STACK.shape
    box = Box((1, 2, 3), (3, 5, 30))
    np.testing.assert_array_equal(source.read(box), STACK[box.slices()])


def test_axes_that_are_none(tmp_path):
    path = write(tmp_path / "a.mrc", STACK)
    np.testing.assert_array_equal(read(patch(path, axes=(0, 0, 0))), STACK)
    for axes in ((1, 1, 3), (1, 2, 4), (1, -2, 3)):
        refused(patch(path, axes=axes), "MAPC, MAPR, MAPS")


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        (3, "mode 3, a Fourier transform of complex 16-bit integers"),
        (4, "mode 4, a Fourier transform of complex numbers"),
        (5, "mode 5, which is bytes to some programs"),
        (7, "mode 7, 32-bit integers"),
        (16, "mode 16, colour"),
        (99, "mode 99, which no standard of MRC knows"),
        (4002, "mode 4002, compressed as MRCZ"),
        (-7, "not an MRC file, or damaged"),
    ],
)
def test_modes_that_are_not_read_say_what_they_are(tmp_path, mode, says):
    refused(patch(write(tmp_path / "a.mrc", STACK), mode=mode), says)


def packed(values):
    """Two values in a byte, the first in the low bits; rows end with a whole byte."""
    even = np.pad(values, ((0, 0), (0, 0), (0, values.shape[2] % 2)))
    return (even[..., 0::2] + 16 * even[..., 1::2]).astype(np.uint8).view(np.int8)


FOUR_BITS = np.random.default_rng(1).integers(0, 16, (3, 5, 8))


@pytest.mark.parametrize("columns", [8, 7, 1])
@pytest.mark.parametrize("statistics", [OPEN, (0.0, 15.0, 7.5), (0.0, 255.0, 100.0)])
def test_mode_101_is_unpacked(tmp_path, columns, statistics, caplog):
    data = FOUR_BITS[:, :, :columns]
    path = write(tmp_path / "a.mrc", packed(data))
    patch(path, mode=101, size=(columns, 5, 3), sampling=(columns, 5, 3), statistics=statistics)
    np.testing.assert_array_equal(read(path), data)
    source = open_mrc(path, tilt_series=True)
    assert (source.shape, source.dtype) == ((3, 5, columns), np.uint8)
    box = Box((1, 2, columns // 2), (3, 4, columns))
    np.testing.assert_array_equal(source.read(box), data[box.slices()])
    assert not caplog.text
    path.write_bytes(path.read_bytes()[:-1])
    refused(path, "shorter than its header says")


def test_an_extended_header_before_four_bit_pixels_that_is_misstated(tmp_path, caplog):
    data = FOUR_BITS.copy()
    statistics = (0.0, 15.0, float(data.mean()))
    fields = {"mode": 101, "size": (8, 5, 3), "sampling": (8, 5, 3), "statistics": statistics}
    path = extended(tmp_path / "a.mrc", packed(data), extended=0, **fields)
    np.testing.assert_array_equal(read(path), data)
    assert "read from byte 2048 on" in caplog.text


@pytest.mark.parametrize("sampling", [4, 8])
def test_imods_flag_of_four_bits_halves_the_columns(tmp_path, caplog, sampling):
    path = write(tmp_path / "a.mrc", packed(FOUR_BITS))
    patch(path, imod=(1146047817, 16), sampling=(sampling, 5, 3), cell=(2.0 * sampling, 10.0, 3.0))
    np.testing.assert_array_equal(read(path), FOUR_BITS)
    assert "two pixels of 4 bits" in caplog.text
    assert open_mrc(path, tilt_series=True).pixel_size_nm == pytest.approx(0.2)
    refused(patch(path, imod=(1146047817, 17)), "signed bytes, which contradict")


def test_a_label_of_four_bits_counts_for_frames_alone(tmp_path):
    label = b"SerialEMCCD: Dose frac. image, 4 bits packed  r/f 0"
    frame = np.zeros((1, 7424, 3840), np.int8)
    frame[0, 0, 0] = 0x21
    path = patch(write(tmp_path / "a.mrc", frame), labels=1, label=label)
    source = open_mrc(path)
    assert source.shape == (1, 7424, 7680)
    np.testing.assert_array_equal(source.read(Box((0, 0, 0), (1, 1, 3))), [[[1, 2, 0]]])
    path = as_bytes(tmp_path / "b.mrc", IMAGE // 2, labels=1, label=label)
    refused(path, "neither IMOD's flag for it nor the size of a frame")
    # Another program has written it since, as IMOD takes it.
    np.testing.assert_array_equal(read(patch(path, labels=2)), IMAGE // 2)


@pytest.mark.parametrize("axes", list(itertools.permutations((1, 2, 3))))
def test_views_have_no_other_order_of_axes(tmp_path, axes):
    path = patch(write(tmp_path / "a.mrc", STACK), axes=axes)
    if axes == (1, 2, 3):
        np.testing.assert_array_equal(
            open_mrc(path, tilt_series=True).read(Box((0, 0, 0), STACK.shape)), STACK
        )
        return
    with pytest.raises(InputError, match=r"MAPC, MAPR, MAPS.*no views"):
        open_mrc(path, tilt_series=True)


def test_views_of_pixels_that_are_not_square_are_refused(tmp_path):
    path = write(tmp_path / "a.mrc", STACK)
    for y, fine in ((320.0, True), (322.0, True), (330.0, False), (0.0, True)):
        patch(path, sampling=(32, 16, 3), cell=(640.0, y, 3.0))
        if fine:
            assert open_mrc(path, tilt_series=True).pixel_size_nm == pytest.approx(2)
        else:
            with pytest.raises(InputError, match=r"not square: 2 nm along x, 2.062 nm"):
                open_mrc(path, tilt_series=True)


def test_a_size_that_programs_write_where_they_know_none_is_said(tmp_path, caplog):
    path = patch(write(tmp_path / "a.mrc", STACK), sampling=(32, 16, 3), cell=(32.0, 16.0, 3.0))
    assert open_mrc(path, tilt_series=True).pixel_size_nm == pytest.approx(0.1)
    assert "exactly 1 angstrom" in caplog.text
    caplog.clear()
    open_mrc(patch(path, cell=(32.1, 16.05, 3.0)), tilt_series=True)
    assert not caplog.text


def test_they_are_pickled_without_their_pixels(tmp_path):
    data = np.random.default_rng(0).integers(0, 15, (20, 30, 40)).astype(np.int8)
    plain = write(tmp_path / "a.mrc", data)
    permuted = patch(write(tmp_path / "b.mrc", data), axes=(3, 1, 2))
    four_bits = patch(write(tmp_path / "c.mrc", data), mode=101, size=(80, 30, 20))
    signed = patch(write(tmp_path / "d.mrc", data - 20), imod=(1146047817, 1), statistics=OPEN)
    for path in (plain, permuted, four_bits, signed):
        raw = pickle.dumps(open_mrc(path))
        assert len(raw) < 2000
        box = Box((1, 2, 3), (4, 5, 6))
        np.testing.assert_array_equal(pickle.loads(raw).read(box), read(path)[box.slices()])


TILT = b"TILT: Tomographic reconstruction                        30-Nov-15  12:29:39"


def test_reconstructions_that_were_not_turned_are_named(tmp_path, caplog):
    path = patch(write(tmp_path / "a.mrc", STACK), labels=1, label=TILT)
    open_mrc(path)
    assert "its axes are (y, z, x), but are read as (z, y, x)" in caplog.text
    caplog.clear()
    open_mrc(path, tilt_series=True)
    assert "a reconstruction by IMOD's tilt, not a tilt series" in caplog.text
    caplog.clear()
    for turn in (b"clip: flipyz", b"clip: rotx", b"TRIMVOL: rotated"):
        open_mrc(patch(path, labels=2, label_2=turn))
        assert "(y, z, x)" not in caplog.text
    open_mrc(patch(path, labels=0))  # what is there of an earlier file
    assert "(y, z, x)" not in caplog.text
    open_mrc(patch(path, labels=2, label=b"clip: flipyz", label_2=TILT))
    assert "(y, z, x)" in caplog.text


def test_rows_of_feis_first_files_begin_at_the_top_as_imod_has_it(tmp_path, caplog):
    fei = {"extended_type": b"FEI1", "version": 20140}
    path = extended(tmp_path / "a.mrc", STACK, bytes(768), **fei)
    np.testing.assert_array_equal(read(path), STACK[:, ::-1])
    box = Box((1, 2, 3), (3, 7, 9))
    np.testing.assert_array_equal(open_mrc(path).read(box), STACK[:, ::-1][box.slices()])
    assert "its rows begin at the top" in caplog.text
    for other in ({"version": 20141}, {"extended_type": b"SERI"}, {"imod": (1146047817, 0)}):
        path = extended(tmp_path / "b.mrc", STACK, bytes(768), **{**fei, **other})
        np.testing.assert_array_equal(read(path), STACK)


def test_stacks_of_volumes_are_refused_and_one_volume_is_not(tmp_path):
    path = write(tmp_path / "a.mrc", np.concatenate([STACK, STACK]))
    refused(patch(path, space_group=401, sampling=(32, 16, 3)), "2 volumes of 3 sections")
    refused(patch(path, sampling=(32, 16, 0)), "stack of volumes")
    assert read(patch(path, sampling=(32, 16, 6))).shape == (6, 16, 32)


@pytest.mark.parametrize(
    ("packed", "says"),
    [
        (gzip.compress, "compressed by gzip"),
        (bz2.compress, "compressed by bzip2"),
        (lzma.compress, "compressed by xz"),
        (lambda raw: b"\x89HDF\r\n" + raw, "HDF5"),
        (lambda raw: b"II*\0" + raw, "TIFF"),
    ],
)
def test_other_formats_under_the_name_say_what_they_are(tmp_path, packed, says):
    path = write(tmp_path / "a.mrc", STACK)
    path.write_bytes(packed(path.read_bytes()))
    refused(path, says)


@pytest.mark.parametrize("magic", [b"\x1f\x8b", b"\x1f\x8b\x08", b"II*\0", b"PK\x03"])
def test_numbers_of_columns_that_look_like_another_format_do_not(tmp_path, magic):
    # 35,615 columns are the first two bytes of gzip, little-endian.
    columns = int.from_bytes(magic, "little")
    path = tmp_path / "a.mrc"
    data = np.arange(columns, dtype=np.uint32).astype("i1").reshape(1, 1, -1)
    write(path, data)
    assert path.read_bytes().startswith(magic)
    np.testing.assert_array_equal(read(path), data)


def swapped(path):
    """The same file in the other byte order (float32)."""
    raw = path.read_bytes()
    words = np.frombuffer(raw[:224], "<u4").astype(">u4")
    words[52] = np.frombuffer(raw[208:212], ">u4")[0]  # 'MAP '
    header = words.tobytes()[:212] + bytes([0x11, 0x11, 0, 0]) + words.tobytes()[216:]
    path.write_bytes(
        header + raw[224:1024] + np.frombuffer(raw[1024:], "<f4").astype(">f4").tobytes()
    )
    return path


@pytest.mark.parametrize("stamp", [(0x44, 0x44, 0, 0), (0x11, 0x11, 0, 0), (0, 0, 0, 0), (9,) * 4])
def test_either_byte_order_whatever_the_machine_stamp(tmp_path, stamp):
    for path in (
        write(tmp_path / "a.mrc", STACK, 20),
        swapped(write(tmp_path / "b.mrc", STACK, 20)),
    ):
        np.testing.assert_array_equal(read(patch(path, stamp=stamp)), STACK)
        assert open_mrc(path).pixel_size_nm == pytest.approx(2)


@pytest.mark.parametrize(
    "size", [(-32, 16, 3), (0, 16, 3), (2**31 - 1,) * 3, (32, 16, 4), (32, 16, 2), (31, 16, 3)]
)
def test_sizes_that_do_not_fit_the_file_are_refused(tmp_path, size):
    refused(patch(write(tmp_path / "a.mrc", STACK), size=size), "header")


def test_cells_that_are_no_size_and_pixels_that_are_not_square_are_said(tmp_path, caplog):
    path = write(tmp_path / "a.mrc", STACK, 20)
    for cell in ((float("nan"),) * 3, (-5.0, 5.0, 5.0), (float("inf"), 1.0, 1.0)):
        caplog.clear()
        assert open_mrc(patch(path, cell=cell)).pixel_size_nm is None
        assert "is no size" in caplog.text
    assert open_mrc(patch(path, sampling=(0, 0, 0), cell=(1.0, 1.0, 1.0))).pixel_size_nm is None
    caplog.clear()
    path = patch(path, sampling=(32, 16, 3), cell=(640.0, 320.0, 3.0))
    assert open_mrc(path).pixel_size_nm == pytest.approx(2)
    assert not caplog.text
    assert open_mrc(patch(path, cell=(640.0, 330.0, 3.0))).pixel_size_nm == pytest.approx(2)
    assert "not square: 2 nm along x, 2.062 nm along y" in caplog.text


def test_values_beyond_those_stated_are_said_and_open_statistics_are_not(tmp_path, caplog):
    path = write(tmp_path / "a.mrc", STACK)
    for statistics in (OPEN, (0.0, 0.0, 0.0), (float("nan"),) * 3):
        open_mrc(patch(path, statistics=statistics))
    assert not caplog.text
    open_mrc(patch(path, statistics=(100.0, 200.0, 150.0)))
    assert "its header states 100 to 200" in caplog.text
    none = write(tmp_path / "b.mrc", np.zeros((1, 2, 3), np.float16))
    none.write_bytes(none.read_bytes()[:1024] + b"\x00\x7e" * 6)  # NaN
    assert np.isnan(read(patch(none, statistics=(1.0, 2.0, 1.5)))).all()


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
    with pytest.raises(InputError, match="0 columns, 0 rows and 0 sections"):
        open_mrc(tmp_path / "zeros.mrc")
    short = write(tmp_path / "short.mrc", DATA.astype(np.float32))
    short.write_bytes(short.read_bytes()[:-4])
    with pytest.raises(InputError, match="MRC"):
        open_mrc(short)
    with pytest.raises(InputError, match="complex"):
        open_mrc(write(tmp_path / "wave.mrc", DATA.astype(np.complex64)))
