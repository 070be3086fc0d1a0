"""Folders of grey PNG or TIFF images, one per section, as a volume."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.core.float32 import as_float32
from ddgm_dist.errors import InputError
from ddgm_dist.readers.base import check_box, check_numbers

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageFolder",
    "disagreement",
    "list_images",
    "numbers_in_names",
    "open_images",
    "pairing",
]

IMAGE_SUFFIXES = (".png", ".tif", ".tiff")
_CACHE_BYTES = 256 * 2**20
_NAME_DEG = 1.0  # names have nominal angles, tables often refined ones


class ImageFolder:
    """Images of one size as a `VolumeSource` ``(image, row, column)``; made by `open_images`.

    Images are decoded when a box asks for them; the last ones used are kept, up to 256 MiB.
    """

    def __init__(self, files: list[Path]) -> None:
        first = _decode(files[0])
        self.files = files
        self.shape: Triple = check_numbers(files[0], (len(files), *first.shape), first.dtype)
        self.dtype: np.dtype[Any] = first.dtype
        self._cache: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._kept = max(1, _CACHE_BYTES // first.nbytes)

    def read(self, box: Box) -> NDArray[np.float32]:
        """The values of a box.

        Raises
        ------
        IndexError
            The box reaches outside the stack.
        InputError
            An image is damaged, or of another size or type than the first; or a value is beyond
            float32.
        """
        check_box(box, self.shape)
        block = np.empty(box.shape, dtype=np.float32)
        for i, section in enumerate(range(box.start[0], box.stop[0])):
            part = self._image(section)[box.y, box.x]
            block[i] = as_float32(part, "source", self.files[section], box.start[1:], copy=False)
        return block

    def _image(self, section: int) -> NDArray[Any]:
        image = self._cache.get(section)
        if image is None:
            file = self.files[section]
            image = _decode(file)
            if image.shape != self.shape[1:] or image.dtype != self.dtype:
                raise InputError(
                    "source",
                    str(file),
                    f"is {image.shape} {image.dtype}, but the first image of the folder is "
                    f"{self.shape[1:]} {self.dtype}",
                )
            self._cache[section] = image
            if len(self._cache) > self._kept:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(section)
        return image


def list_images(folder: Path) -> list[Path]:
    """PNG and TIFF files of a folder in the order of their names, numbers counting as numbers.

    Where the names differ in one signed number, such as a tilt angle, that orders them. Hidden
    files, whose names begin with a dot, are none.
    """
    files = [f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES]
    files = sorted((f for f in files if f.name[0] != "." and f.is_file()), key=_natural)
    numbers, signed = numbers_in_names(files)
    if not signed:
        return files
    return [file for _, file in sorted(zip(numbers, files, strict=True), key=lambda pair: pair[0])]


def numbers_in_names(files: Sequence[Path]) -> tuple[tuple[float, ...], bool]:
    """The one number in which the names of images differ, and whether its sign is meant as one.

    A plus is a sign, and so is a minus that only some names have. A minus that all names have is a sign
    where it can separate nothing, as in ``-60.tif`` and ``a[-60].tif``. It is one too where it follows
    neither letter nor digit and the numbers are decimal, as in ``s_-60.5.tif``. In ``slice-001.tif``,
    ``a_-001.tif`` and ``a -001.tif`` it is a separator.

    Returns
    -------
    tuple
        Numbers as they are written, one per file, none if the names differ in something else; and
        whether they are signed.
    """
    names = [re.split(r"([-+]?\d+(?:\.\d+)?)", f.stem) for f in files]
    if len(names) < 2 or len({tuple(name[::2]) for name in names}) > 1:
        return (), False
    varying = [k for k in range(1, len(names[0]), 2) if len({name[k] for name in names}) > 1]
    if len(varying) != 1:
        return (), False
    (k,) = varying
    words = [name[k] for name in names]
    minus = sum(word.startswith("-") for word in words)
    before = "".join(names[0][:k])[-1:]
    signed = any(word.startswith("+") for word in words) or 0 < minus < len(words)
    if minus and not signed:
        decimal = any("." in word for word in words)
        signed = before in ("", *"([{=") or (decimal and not before.isalnum())
    return tuple(float(word) for word in words), signed


def pairing(files: Sequence[Path], angles: Sequence[float]) -> str:
    """Pairs of image and angle in degrees, as text: the first, the middle and the last one."""
    shown = sorted({0, len(files) // 2, len(files) - 1})
    return ", ".join(f"{files[i].name} -> {angles[i]:g}" for i in shown)


def disagreement(files: Sequence[Path], angles: Sequence[float]) -> str:
    """Text on names of images that state other angles, degrees, than they are paired with.

    Numbers without a sign may count the images. They are taken for angles only if they are the
    same as the angles, in another order.

    Returns
    -------
    str
        A sentence, empty where nothing disagrees.
    """
    numbers, signed = numbers_in_names(files)
    if len(numbers) != len(angles):
        return ""
    pairs = list(zip(numbers, angles, strict=True))
    other = [i for i, (number, angle) in enumerate(pairs) if abs(number - angle) > _NAME_DEG]
    same = zip(sorted(numbers), sorted(angles), strict=True)
    if not other or not (signed or all(abs(a - b) <= _NAME_DEG for a, b in same)):
        return ""
    first = other[0]
    return (
        f"{files[first].name} is taken for {angles[first]:g} degrees, though its name says "
        f"{numbers[first]:g}; so it is with {len(other)} of {len(files)} images: give the angles "
        "in the order of the names"
    )


def open_images(folder: Path) -> ImageFolder:
    """Open a folder of grey images (8-bit, 16-bit or floating point), one per section.

    Raises
    ------
    InputError
        The folder holds no PNG or TIFF, or the first one is damaged or in colour.
    """
    files = list_images(folder) if folder.is_dir() else []
    if not files:
        raise InputError("source", str(folder), "is not a folder with PNG or TIFF images")
    return ImageFolder(files)


def _natural(file: Path) -> list[tuple[int, int, str]]:
    """Sorts names by their text and by the numbers in them."""
    return [_part(part) for part in re.split(r"(\d+)", file.name)]


def _part(text: str) -> tuple[int, int, str]:
    return (0, int(text), "") if text.isdigit() else (1, 0, text)


def _decode(file: Path) -> NDArray[Any]:
    """The pixels of a file as they are stored."""
    try:
        with file.open("rb") as handle:
            if file.suffix.lower() == ".png":
                with Image.open(handle) as png:
                    # Indices into a palette are no grey values; colours are refused below.
                    image = np.asarray(png.convert("RGB") if png.mode == "P" else png)
            else:
                image = np.asarray(tifffile.imread(handle))
    except Exception as error:  # each decoder raises its own types
        raise InputError("source", str(file), f"is not a readable image ({error})") from error
    if image.ndim != 2:
        raise InputError(
            "source",
            str(file),
            f"must be one grey image (row, column); it is {image.shape}",
            "convert colour images to grey and split multi-page TIFFs",
        )
    return image
