"""TIFF files that tifffile, Pillow and imagecodecs write, of every kind that microscopes do."""

import json
import os
import pickle
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.readers.images import stack as image_stack
from ddgm_dist.readers.images.stack import ImageStack, open_images, open_tiff

SHAPE = (5, 37, 50)
BOXES = [Box((0, 0, 0), SHAPE), Box((1, 3, 17), (4, 30, 49)), Box((4, 36, 0), (5, 37, 50))]
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8"]


def values(dtype, shape=SHAPE):
    ramp = np.arange(int(np.prod(shape))).reshape(shape) % 97
    return (ramp - (48 if np.dtype(dtype).kind in "if" else 0)).astype(dtype)


def agrees(stack, data):
    assert stack.shape == data.shape
    assert stack.dtype.newbyteorder("=") == data.dtype
    for box in BOXES:
        block = stack.read(box)
        assert block.dtype == np.float32
        np.testing.assert_array_equal(block, data[box.slices()].astype(np.float32))


def refused(path, says, reader=open_tiff):
    with pytest.raises(InputError, match=says) as error:
        reader(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True},
        {"imagej": True},
        {"rowsperstrip": 8},
        {"compression": "lzw"},
        {"compression": "zlib", "predictor": True, "rowsperstrip": 8},
        {"compression": "deflate", "tile": (16, 32)},
        {"tile": (16, 16)},
        {"truncate": True},
    ],
    ids=lambda options: "-".join(map(str, options)) or "plain",
)
def test_pages_are_sections(tmp_path, dtype, order, options):
    if options.get("imagej") and (dtype not in ("u1", "u2", "f4") or order == "<"):
        return  # a variant that ImageJ does not have
    path = tmp_path / "a.tif"
    data = values(dtype)
    more = {} if options.get("imagej") else {"byteorder": order, "photometric": "minisblack"}
    tifffile.imwrite(path, data, **more, **options)
    agrees(open_tiff(path), data)
    agrees(pickle.loads(pickle.dumps(open_tiff(path))), data)


def test_jpeg_of_grey_pages(tmp_path):
    path = tmp_path / "a.tif"
    data = values("u1")
    for options in ({"tile": (16, 16)}, {"rowsperstrip": 16}, {}):
        tifffile.imwrite(path, data, photometric="minisblack", compression="jpeg", **options)
        agrees(open_tiff(path), tifffile.imread(path))


def test_pages_that_pillow_writes(tmp_path):
    path = tmp_path / "a.tif"
    data = values("u2")
    pages = [Image.fromarray(page) for page in data]
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        pages[0].save(path, save_all=True, append_images=pages[1:], compression=compression)
        agrees(open_tiff(path), data)


@pytest.mark.parametrize(("bits", "white"), [("u1", 255), ("u2", 65535)])
@pytest.mark.parametrize("compression", [None, "lzw"])
def test_images_with_a_white_zero_are_inverted_and_that_is_said(
    tmp_path, caplog, bits, white, compression
):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values(bits), photometric="miniswhite", compression=compression)
    agrees(open_tiff(path), (white - values(bits).astype("i8")).astype(bits))
    assert "its smallest value is white: its values are inverted" in caplog.text
    tifffile.imwrite(path, values("f4"), photometric="miniswhite")
    refused(path, "leaves open whether the values are inverted")


def test_bits_packed_into_bytes_are_values(tmp_path):
    path = tmp_path / "a.tif"
    data = values("u1") % 16
    for light, want in (("minisblack", data), ("miniswhite", 15 - data)):
        tifffile.imwrite(path, data, photometric=light, bitspersample=4, rowsperstrip=8)
        agrees(open_tiff(path), want)


def test_hyperstacks_have_one_axis(tmp_path):
    path = tmp_path / "a.tif"
    data = values("u2", (6, 8, 9))
    for shape, says in [
        ((6, 1, 1, 8, 9), ""),
        ((1, 6, 1, 8, 9), ""),
        ((1, 1, 6, 8, 9), ""),
        ((2, 3, 1, 8, 9), "'slices': 3, 'frames': 2|'frames': 2, 'slices': 3"),
        ((1, 3, 2, 8, 9), "several axes"),
    ]:
        tifffile.imwrite(path, data.reshape(shape), imagej=True, metadata={"axes": "TZCYX"})
        if says:
            refused(path, says)
        else:
            np.testing.assert_array_equal(open_tiff(path).read(Box((0, 0, 0), (6, 8, 9))), data)
    tifffile.imwrite(path, data.reshape(2, 3, 8, 9), photometric="minisblack")
    refused(path, "'axis 0': 2, 'axis 1': 3")
    tifffile.imwrite(path, data, ome=True, metadata={"axes": "TYX"}, photometric="minisblack")
    assert open_tiff(path).shape == (6, 8, 9)
    tifffile.imwrite(path, data.reshape(2, 3, 8, 9), ome=True, metadata={"axes": "TZYX"})
    refused(path, "'Z': 3")


def test_a_description_of_more_images_than_there_are_is_refused(tmp_path):
    # One of several files that belong together, or a file that lost its end.
    path = tmp_path / "a.tif"
    ome = '<OME><Image><Pixels SizeC="1" SizeT="9" SizeZ="1"/></Image></OME>'
    for text in (ome, "ImageJ=1.53t\nimages=9\nslices=9\n"):
        tifffile.imwrite(
            path, values("u2"), photometric="minisblack", description=text, metadata=None
        )
        refused(path, "describes 9 images, but holds 5")
        whole = path.read_bytes()
        path.write_bytes(whole.replace(text.encode(), text.replace("9", "5").encode()))
        agrees(open_tiff(path), values("u2"))


def test_pages_of_large_files_of_imagej_have_one_directory(tmp_path):
    # ImageJ writes no more directories where a file is beyond 4 GiB.
    path = tmp_path / "a.tif"
    data = values("u2")
    tifffile.imwrite(path, data, imagej=True, truncate=True)
    with tifffile.TiffFile(path) as tif:
        assert len(tif.pages) == 1
    agrees(open_tiff(path), data)
    path.write_bytes(path.read_bytes()[:-1])
    refused(path, "cut short: 5 images do not fit")


def test_colours_and_palettes_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((4, 5, 3), np.uint8), photometric="rgb")
    refused(path, "in colour")
    tifffile.imwrite(
        path, np.zeros((3, 4, 5), np.uint8), photometric="rgb", planarconfig="separate"
    )
    refused(path, "in colour")
    Image.fromarray(np.zeros((4, 5), np.uint8)).convert("P").save(path)
    refused(path, "palette")
    tifffile.imwrite(path, np.zeros((4, 5), np.complex64))
    refused(path, "must be one grey image")
    Image.fromarray(np.zeros((4, 5), bool)).save(path)
    refused(path, "must be one grey image")


def test_pages_of_several_sizes_or_types_are_refused_and_thumbnails_left_out(tmp_path, caplog):
    path = tmp_path / "a.tif"
    data = values("u2")
    for odd in (data[2, 1:], data[2].astype("u1")):
        with tifffile.TiffWriter(path) as tif:
            for page in (data[0], data[1], odd):
                tif.write(page, photometric="minisblack", contiguous=False)
        refused(path, rf"page 3: is \({odd.shape[0]}, 50\) {odd.dtype}, but the first page")
    with tifffile.TiffWriter(path) as tif:
        for page in data:
            tif.write(page, photometric="minisblack", contiguous=False)
            tif.write(page[::4, ::4], photometric="minisblack", subfiletype=1, contiguous=False)
    agrees(open_tiff(path), data)
    assert "leaves out 5 thumbnails" in caplog.text


def test_rows_from_the_bottom_are_marked_and_turned_images_refused(tmp_path):
    path = tmp_path / "a.tif"
    for orientation in range(1, 9):
        tag = (274, "H", 1, orientation, False)
        tifffile.imwrite(path, values("u1"), photometric="minisblack", extratags=[tag])
        if orientation in (1, 4):
            assert open_tiff(path).from_top == (orientation == 1)
        else:
            refused(path, f"Orientation {orientation}")


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
def test_files_cut_short_are_refused_wherever_they_end(tmp_path, options):
    whole = tmp_path / "whole.tif"
    tifffile.imwrite(whole, values("u2"), photometric="minisblack", **options)
    raw = whole.read_bytes()
    path = tmp_path / "a.tif"
    for size in range(0, len(raw) - 1, 211):
        path.write_bytes(raw[:size])
        try:
            stack = open_tiff(path)
        except InputError:
            refused(path, "cut short|not a readable TIFF|lacks parts")
        else:  # what is missing are other tags of the last page
            agrees(stack, values("u2"))


def test_pages_that_are_linked_in_a_circle_end(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values("u1")[0], photometric="minisblack", byteorder="<")
    raw = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<I", raw, 4)
    (count,) = struct.unpack_from("<H", raw, at)
    struct.pack_into("<I", raw, at + 2 + 12 * count, at)
    path.write_bytes(raw)
    refused(path, "page 2 is an earlier one")


def test_damaged_strips_are_refused_when_they_are_read(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, values("u2"), photometric="minisblack", compression="zlib", rowsperstrip=8
    )
    with tifffile.TiffFile(path) as tif:
        begin, count = tif.pages[3].dataoffsets[2], tif.pages[3].databytecounts[2]
    raw = bytearray(path.read_bytes())
    raw[begin : begin + count] = bytes(count)
    path.write_bytes(raw)
    stack = open_tiff(path)
    stack.read(Box((0, 0, 0), (3, 37, 50)))
    stack.read(Box((3, 24, 0), (4, 37, 50)))
    with pytest.raises(InputError, match="page 4: is not a readable image"):
        stack.read(Box((3, 17, 0), (4, 18, 50)))


def test_a_file_that_was_changed_is_refused(tmp_path):
    for options in ({}, {"compression": "zlib"}):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, values("u1"), photometric="minisblack", **options)
        stack = open_tiff(path)
        os.utime(path, ns=(1, 1))
        with pytest.raises(InputError, match="was changed"):
            stack.read(BOXES[0])


def test_strips_are_decoded_in_part_and_whole_pages_kept(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    decoded = []
    real = tifffile.TiffPage.decode.func
    monkeypatch.setattr(
        tifffile.TiffPage,
        "decode",
        property(lambda self: lambda *a, **k: decoded.append(a[1]) or real(self)(*a, **k)),
    )
    tifffile.imwrite(
        path, values("u2"), photometric="minisblack", compression="zlib", rowsperstrip=8
    )
    open_tiff(path).read(Box((1, 8, 0), (2, 17, 50)))
    assert decoded == [1, 2]
    decoded.clear()
    tifffile.imwrite(path, values("u2"), photometric="minisblack", tile=(16, 16), compression="lzw")
    open_tiff(path).read(Box((1, 8, 16), (2, 17, 33)))
    assert decoded == [1, 2, 5, 6]
    decoded.clear()
    tifffile.imwrite(
        path, values("u2"), photometric="minisblack", rowsperstrip=37, compression="lzw"
    )
    stack = open_tiff(path)
    for row in range(3):
        stack.read(Box((0, row, 0), (5, row + 1, 50)))
    assert decoded == [0] * 5
    assert image_stack._CACHE_BYTES >= 2**20


def test_movies_and_electron_events_are_refused_by_name(tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    tifffile.imwrite(folder / "a_1.tif", values("u1"), photometric="minisblack")
    with pytest.raises(InputError, match=r"a_1.tif: is a movie or a stack of 5 images.*correct"):
        open_images(folder)
    path = tmp_path / "e.tif"
    tifffile.imwrite(path, values("u1")[0], photometric="minisblack", byteorder="<")
    raw = bytearray(path.read_bytes())
    at = raw.index(struct.pack("<HHI", 259, 3, 1))
    struct.pack_into("<H", raw, at + 8, 65001)
    path.write_bytes(raw)
    refused(path, "EER")


def test_other_formats_under_the_name_say_what_they_are(tmp_path):
    path = tmp_path / "a.tif"
    np.save(tmp_path / "a.npy", values("u1"))
    path.write_bytes((tmp_path / "a.npy").read_bytes())
    refused(path, "NumPy array, whatever its name")
    path.write_text(json.dumps({}) * 100)
    refused(path, "not a readable TIFF")
    with pytest.raises(InputError, match="not a readable TIFF"):
        open_tiff(tmp_path / "none.tif")


def test_a_file_of_one_page_is_a_stack_of_one(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", values("f4")[0])
    stack = open_tiff(tmp_path / "a.tif")
    assert isinstance(stack, ImageStack)
    assert stack.shape == (1, 37, 50)
