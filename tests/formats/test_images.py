"""Folders of images."""

import numpy as np
import pytest
from PIL import Image
from skimage import io

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.formats.images import list_images, open_images

DATA = np.random.default_rng(0).integers(0, 255, size=(12, 5, 7))


def write(folder, data, suffix=".png", name="image{}"):
    folder.mkdir(exist_ok=True)
    for i, image in enumerate(data):
        io.imsave(folder / f"{name.format(i)}{suffix}", image, check_contrast=False)
    return folder


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(".png", "uint8"), (".png", "uint16"), (".tif", "float32"), (".TIFF", "uint16")],
)
def test_images_are_sections_in_the_order_of_their_numbers(tmp_path, suffix, dtype):
    data = (DATA * (100 if dtype == "uint16" else 1)).astype(dtype)
    folder = write(tmp_path / "a", data, suffix)
    (folder / "notes.txt").write_text("not an image")
    source = open_images(folder)
    assert (source.shape, source.dtype) == (DATA.shape, dtype)
    box = Box((1, 2, 3), (11, 5, 6))
    np.testing.assert_array_equal(source.read(box), data[box.slices()].astype(np.float32))
    with pytest.raises(IndexError):
        source.read(Box((0, 0, 0), (13, 5, 7)))


def test_names_sort_by_numbers_and_then_by_text(tmp_path):
    write(tmp_path / "a", DATA[:1].astype(np.uint8), name="b2")
    for name in ("b10", "b1", "a3", "b1a", "7"):
        write(tmp_path / "a", DATA[:1].astype(np.uint8), name=name)
    assert [f.stem for f in list_images(tmp_path / "a")] == ["7", "a3", "b1", "b1a", "b2", "b10"]


def test_the_cache_is_bounded_and_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("ddgm_dist.formats.images._CACHE_BYTES", 3 * 5 * 7)
    source = open_images(write(tmp_path / "a", DATA.astype(np.uint8)))
    whole = Box((0, 0, 0), DATA.shape)
    for _ in range(2):
        np.testing.assert_array_equal(source.read(whole), DATA)
    assert list(source._cache) == [9, 10, 11]
    source.read(Box((9, 0, 0), (10, 1, 1)))[:] = 0
    assert list(source._cache) == [10, 11, 9]
    np.testing.assert_array_equal(source.read(whole), DATA)


def test_bad_folders(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="not a folder with PNG or TIFF"):
            open_images(folder)
    with pytest.raises(InputError, match="grey"):
        open_images(write(tmp_path / "rgb", np.zeros((1, 4, 5, 3), np.uint8)))
    (tmp_path / "palette").mkdir()
    Image.fromarray(DATA[0].astype(np.uint8)).convert("P").save(tmp_path / "palette/a.png")
    with pytest.raises(InputError, match="grey"):
        open_images(tmp_path / "palette")
    folder = write(tmp_path / "odd", DATA.astype(np.uint8))
    io.imsave(folder / "image3.png", DATA[3, 1:].astype(np.uint8), check_contrast=False)
    io.imsave(folder / "image4.png", DATA[4].astype(np.uint16), check_contrast=False)
    (folder / "image5.png").write_bytes(b"oops")
    source = open_images(folder)
    source.read(Box((0, 0, 0), (3, 5, 7)))
    for section, says in ((3, "image3.png"), (4, "uint16"), (5, "not a readable image")):
        with pytest.raises(InputError, match=says):
            source.read(Box((section, 0, 0), (section + 1, 5, 7)))
