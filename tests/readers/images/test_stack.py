"""Folders of images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import io

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.readers.images.stack import disagreement, list_images, open_images, pairing

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


def files(*stems):
    return [Path("folder") / f"{stem}.tif" for stem in stems]


@pytest.mark.parametrize(
    "ordered",
    [
        ["s_-60", "s_-45", "s_-3", "s_0", "s_+15", "s_+60"],
        ["s_-60", "s_-3", "s_00", "s_15", "s_60"],
        ["s_-60.5", "s_-3.0", "s_-0.5", "s_15.0"],
        ["-60", "-3"],  # half a series
        ["s_-60.0", "s_-3.5"],
        ["tilt=-60", "tilt=-3"],
        ["a (-60)", "a (-3)"],
        ["tilt-60", "tilt-3", "tilt0", "tilt15"],
        ["run2_-60_bin4", "run2_-3_bin4", "run2_+3_bin4"],
        ["a_[-60.00]", "a_[-3.00]", "a_[60.00]"],
        # Separators, not signs.
        ["slice-001", "slice-002", "slice-010"],
        ["name -001", "name -002", "name -010"],
        ["name_-1", "name_-2", "name_-10"],
        ["name - -1", "name - -2"],
        ["2024-11-29_1", "2024-11-29_2", "2024-11-29_10"],
        ["001-2", "001-3", "001-10"],
        ["v1.9", "v1.10"],
        # More than one number that differs: the first one leads.
        ["001_-60", "002_+60", "003_0"],
        ["0", "5", "10"],
        ["only"],
    ],
)
def test_signed_numbers_order_images_and_separators_do_not(tmp_path, ordered):
    for stem in sorted(ordered, reverse=True):
        (tmp_path / f"{stem}.tif").touch()
    assert [f.stem for f in list_images(tmp_path)] == ordered


def test_hidden_files_are_no_images(tmp_path):
    folder = write(tmp_path / "a", DATA[:2].astype(np.uint8))
    (folder / "._image0.png").write_bytes(b"Mac OS X")
    (folder / ".image7.png").write_bytes(b"")
    (folder / "image8.png").mkdir()
    assert [f.name for f in list_images(folder)] == ["image0.png", "image1.png"]
    assert open_images(folder).shape == (2, 5, 7)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/.a.png").touch()
    with pytest.raises(InputError, match="not a folder with PNG or TIFF"):
        open_images(tmp_path / "b")


def test_the_pairing_shows_both_ends_and_the_middle():
    shown = pairing(files("s_-60", "s_-30", "s_0", "s_+60"), (-60.0, -30.5, 0.0, 60.0))
    assert shown == "s_-60.tif -> -60, s_0.tif -> 0, s_+60.tif -> 60"
    assert pairing(files("a"), (3.0,)) == "a.tif -> 3"


def test_names_that_speak_of_other_angles_are_seen():
    signed = files("s_-60", "s_0", "s_+60")
    assert not disagreement(signed, (-59.6, 0.1, 60.4))
    said = disagreement(signed, (0.0, -60.0, 60.0))
    assert "s_-60.tif is taken for 0 degrees, though its name says -60" in said
    assert "2 of 3 images" in said
    # Numbers that count are no angles; those that are the angles in another order are.
    assert not disagreement(files("1", "2", "3"), (-60.0, 0.0, 60.0))
    assert not disagreement(files("a", "b", "c"), (-60.0, 0.0, 60.0))
    assert disagreement(files("tilt-2", "tilt-30", "tilt-60"), (-60.0, -30.0, -2.0))
    assert disagreement(files("0", "30", "60"), (30.0, 0.0, 60.0))
    # Half a series whose minus may separate is ordered as counts are: then that is told.
    assert disagreement(files("s_-3", "s_-60"), (-60.0, -3.0))
    assert not disagreement(files("s -001", "s -002"), (-60.0, -3.0))


def test_the_cache_is_bounded_and_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("ddgm_dist.readers.images.stack._CACHE_BYTES", 3 * 5 * 7)
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
    folder = write(tmp_path / "damaged", DATA.astype(np.uint8))
    (folder / "image5.png").write_bytes(b"oops")
    with pytest.raises(InputError, match=r"image5.png: is not a readable image"):
        open_images(folder)


def test_a_mixture_of_sizes_or_types_is_refused_by_name(tmp_path):
    folder = write(tmp_path / "odd", DATA.astype(np.uint8))
    io.imsave(folder / "image0.png", DATA[3, 1:].astype(np.uint8), check_contrast=False)
    io.imsave(folder / "image4.png", DATA[4].astype(np.uint16), check_contrast=False)
    with pytest.raises(InputError) as error:
        open_images(folder)
    assert (
        f"{folder / 'image0.png'} is 4 x 7 uint8, {folder / 'image4.png'} is 5 x 7 uint16"
        in str(error.value)
    )
    assert "10 of 12 are 5 x 7 uint8" in str(error.value)
