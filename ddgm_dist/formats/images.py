"""Folders of grey PNG or TIFF images, one per section, as a volume."""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.formats.base import Triple, check_box, check_numbers

__all__ = ["IMAGE_SUFFIXES", "ImageFolder", "list_images", "open_images"]

IMAGE_SUFFIXES = (".png", ".tif", ".tiff")
_CACHE_BYTES = 256 * 2**20


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
            An image is damaged, or of another size or type than the first.
        """
        check_box(box, self.shape)
        block = np.empty(box.shape, dtype=np.float32)
        for i, section in enumerate(range(box.start[0], box.stop[0])):
            block[i] = self._image(section)[box.y, box.x]
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


def list_images(folder: str | Path) -> list[Path]:
    """PNG and TIFF files of a folder in the order of their names, numbers counting as numbers."""
    files = [f for f in Path(folder).iterdir() if f.suffix.lower() in IMAGE_SUFFIXES]
    return sorted(files, key=lambda f: [_part(p) for p in re.split(r"(\d+)", f.name)])


def open_images(folder: str | Path) -> ImageFolder:
    """Open a folder of grey images (8-bit, 16-bit or floating point), one per section.

    Raises
    ------
    InputError
        The folder holds no PNG or TIFF, or the first one is damaged or in colour.
    """
    files = list_images(folder) if Path(folder).is_dir() else []
    if not files:
        raise InputError("source", str(folder), "is not a folder with PNG or TIFF images")
    return ImageFolder(files)


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
