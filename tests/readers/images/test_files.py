"""Files of one image each, as an mdoc or a folder names them."""

import os
import pickle
import warnings

import imagecodecs
import mrcfile
import numpy as np
import pytest
import tifffile
from PIL import Image

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.readers.images.files import open_image
from ddgm_dist.readers.images.stack import open_image_files, open_images

DATA = np.random.default_rng(0).integers(0, 999, (4, 9, 7)).astype(np.uint16)
BOX = Box((1, 2, 3), (4, 8, 6))


def write(path, image):
    if path.suffix == ".mrc":
        with warnings.catch_warnings(), mrcfile.new(path, overwrite=True) as mrc:
            mrc.set_data(image)
    elif path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(image))
    else:
        tifffile.imwrite(path, image, photometric="minisblack", compression="lzw")
    return path


@pytest.mark.parametrize("suffix", [".mrc", ".png", ".tif"])
def test_files_are_read_in_the_order_given(tmp_path, suffix):
    files = [write(tmp_path / f"v{k}{suffix}", DATA[k]) for k in range(4)]
    stack = open_image_files(files[::-1])
    np.testing.assert_array_equal(stack.read(BOX), DATA[::-1][BOX.slices()])
    assert stack.files == files[::-1]
    assert stack.from_top == (suffix != ".mrc")
    np.testing.assert_array_equal(open_images(tmp_path).read(BOX), DATA[BOX.slices()])
    again = pickle.loads(pickle.dumps(stack))
    assert not again._cache
    np.testing.assert_array_equal(again.read(BOX), DATA[::-1][BOX.slices()])


def test_png_of_16_bits_that_pillow_writes(tmp_path):
    Image.fromarray(DATA[0]).save(tmp_path / "a.png")
    stack = open_images(tmp_path)
    assert (stack.shape, stack.dtype) == ((1, 9, 7), np.uint16)
    np.testing.assert_array_equal(stack.read(Box((0, 0, 0), (1, 9, 7))), DATA[:1])


def test_rows_from_the_top_and_from_the_bottom_do_not_mix(tmp_path):
    files = [write(tmp_path / "a.mrc", DATA[0]), write(tmp_path / "b.tif", DATA[1])]
    with pytest.raises(InputError, match=r"9 x 7 uint16 from MRC|are 9 x 7 uint16"):
        open_image_files(files)
    both = [write(tmp_path / "c.png", DATA[0]), files[1]]
    assert open_image_files(both).shape == (2, 9, 7)


def refused(path, says):
    with pytest.raises(InputError, match=says) as error:
        open_image_files([path])
    assert str(path) in str(error.value)


def test_movies_are_refused_with_what_to_do(tmp_path):
    refused(
        write(tmp_path / "a.mrc", DATA), "a movie or a stack of 4 images; sum or motion-correct"
    )
    refused(write(tmp_path / "a.tif", DATA), "a movie or a stack of 4 images, not one; sum or")
    frames = [Image.fromarray(image.astype(np.uint8)) for image in DATA]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    refused(tmp_path / "a.png", "movie of 4 images")
    (tmp_path / "a.eer").write_bytes(b"II+\0")
    refused(tmp_path / "a.eer", "EER format; sum or motion-correct")


def test_what_is_no_grey_image(tmp_path):
    for image, says in [
        (Image.new("RGB", (7, 9)), "in colour"),
        (Image.new("LA", (7, 9)), "transparent"),
        (Image.new("1", (7, 9)), "black and white only"),
        (Image.new("P", (7, 9)), "in colour"),
    ]:
        image.save(tmp_path / "a.png")
        refused(tmp_path / "a.png", says)
    refused(tmp_path / "none.png", "not a readable image")
    write(tmp_path / "a.tif", DATA[0]).rename(tmp_path / "b.png")
    refused(tmp_path / "b.png", "TIFF file, whatever its name; give it the suffix .tif")
    write(tmp_path / "a.mrc", DATA[0]).rename(tmp_path / "b.tif")
    refused(tmp_path / "b.tif", "is an MRC file, whatever its name.*; give it the suffix .mrc")
    write(tmp_path / "c.png", DATA[0]).rename(tmp_path / "b.mrc")
    refused(tmp_path / "b.mrc", "PNG image, whatever its name")
    (tmp_path / "a.jpg").touch()
    refused(tmp_path / "a.jpg", "not a PNG, TIFF or MRC image")
    with pytest.raises(InputError, match="names no image"):
        open_image_files([])


def test_png_that_is_cut_short_or_changed(tmp_path):
    path = write(tmp_path / "a.png", DATA[0])
    whole = path.read_bytes()
    for size in (0, 4, 30):
        path.write_bytes(whole[:size])
        refused(path, "not a readable image")
    path.write_bytes(whole[:-40])
    with pytest.raises(InputError, match=r"a.png: is not a readable image"):
        open_image_files([path]).read(Box((0, 0, 0), (1, 1, 1)))
    path.write_bytes(whole)
    image = open_image(path)
    os.utime(path, ns=(1, 1))
    with pytest.raises(InputError, match="was changed"):
        image.read(slice(0, 1), slice(0, 1))


def test_an_empty_folder_says_what_it_holds(tmp_path):
    with pytest.raises(InputError, match="it is empty"):
        open_images(tmp_path)
    for name in ("a.dm4", "b.dm4", "readme"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"it holds 2 .dm4, 1 without suffix"):
        open_images(tmp_path)
