"""Stacks of grey images: a folder or a list of files, or the pages of a TIFF file."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.core.float32 import as_float32
from ddgm_dist.errors import InputError
from ddgm_dist.readers.base import check_box, check_numbers
from ddgm_dist.readers.images.files import Image, open_image
from ddgm_dist.readers.images.names import (
    IMAGE_SUFFIXES,
    disagreement,
    list_images,
    numbers_in_names,
    pairing,
)
from ddgm_dist.readers.images.tiff import TIFF_SUFFIXES, tiff_pages

__all__ = [
    "IMAGE_SUFFIXES",
    "TIFF_SUFFIXES",
    "ImageFolder",
    "ImageStack",
    "disagreement",
    "list_images",
    "numbers_in_names",
    "open_image_files",
    "open_images",
    "open_tiff",
    "pairing",
]

_CACHE_BYTES = 256 * 2**20
_NAMED = 3  # files that a message names


class ImageStack:
    """Images of one size and type as a `VolumeSource` ``(image, row, column)``.

    Parts of images are read when a box asks for them. Images that can be decoded as a whole only are
    kept after their last use, up to 256 MiB in each process.

    Parameters
    ----------
    images
        One or more, from the same reader.
    names
        Their names for messages.

    Attributes
    ----------
    from_top
        Whether the first row of the images is the upper one, as in PNG and TIFF files. In MRC files it
        is the lower one.
    decodes_whole
        Whether some image can be decoded as a whole only, so that reading few rows of all is slow.

    Raises
    ------
    InputError
        They differ in size or type, or hold no real numbers.
    """

    def __init__(self, images: Sequence[Image], names: Sequence[str]) -> None:
        _refuse_mixture(images, names)
        first = images[0]
        self.shape: Triple = check_numbers(names[0], (len(images), *first.shape), first.dtype)
        self.dtype: np.dtype[Any] = first.dtype
        self.from_top = first.from_top
        self.decodes_whole = any(image.whole for image in images)
        self._images, self._names = tuple(images), tuple(names)
        self._forget()

    def _forget(self) -> None:
        self._cache: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._kept = max(1, _CACHE_BYTES // (self.shape[1] * self.shape[2] * self.dtype.itemsize))

    def __getstate__(self) -> dict[str, Any]:
        # Another process decodes anew.
        return {**self.__dict__, "_cache": OrderedDict()}

    def read(self, box: Box) -> NDArray[np.float32]:
        """The values of a box.

        Raises
        ------
        IndexError
            The box reaches outside the stack.
        InputError
            An image is damaged, or was changed since it was opened; or a value is beyond float32.
        StorageError
            A file cannot be read.
        """
        check_box(box, self.shape)
        block = np.empty(box.shape, dtype=np.float32)
        for i, section in enumerate(range(box.start[0], box.stop[0])):
            image = self._images[section]
            whole = self._decoded(section) if image.whole else None
            part = image.read(box.y, box.x) if whole is None else whole[box.y, box.x]
            block[i] = as_float32(part, "source", self._names[section], box.start[1:], copy=False)
        return block

    def _decoded(self, section: int) -> NDArray[Any]:
        image = self._cache.pop(section, None)
        if image is None:
            _, rows, columns = self.shape
            image = self._images[section].read(slice(0, rows), slice(0, columns))
        self._cache[section] = image
        if len(self._cache) > self._kept:
            self._cache.popitem(last=False)
        return image


class ImageFolder(ImageStack):
    """Files of one image each; made by `open_images` and `open_image_files`.

    Attributes
    ----------
    files
        The files, in the order of the sections.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)
        super().__init__([open_image(file) for file in files], [str(file) for file in files])


def open_images(folder: Path) -> ImageFolder:
    """Open a folder of grey images (8-bit, 16-bit or floating point), one per section.

    They are the files of `list_images`.

    Raises
    ------
    InputError
        The folder holds no images; or one is damaged, in colour, a movie, or unlike the others.
    """
    files = list_images(folder) if folder.is_dir() else []
    if not files:
        raise InputError(
            "source",
            str(folder),
            f"is not a folder with PNG or TIFF images, nor with MRC files of one image"
            f"{_content(folder)}",
        )
    return ImageFolder(files)


def open_image_files(files: Sequence[Path]) -> ImageFolder:
    """Open files of one grey image each, PNG, TIFF or MRC, in the order given.

    Raises
    ------
    InputError
        There is none; or one is missing, damaged, in colour, a movie, or unlike the others.
    """
    if not files:
        raise InputError("source", "none", "names no image")
    return ImageFolder(files)


def open_tiff(path: Path) -> ImageStack:
    """Open a TIFF or BigTIFF file: one grey image per page, ``(page, row, column)``.

    Errors are those of `ddgm_dist.readers.images.tiff.tiff_pages`.
    """
    pages = tiff_pages(path)
    return ImageStack(pages, [page.name for page in pages])


def _refuse_mixture(images: Sequence[Image], names: Sequence[str]) -> None:
    """Refuse images of several sizes or types; the most frequent one is taken for what is meant."""
    kinds = [(i.shape, i.dtype.newbyteorder("="), i.from_top) for i in images]
    (usual, count), *others = Counter(kinds).most_common()
    if not others:
        return
    odd = [k for k, kind in enumerate(kinds) if kind != usual]
    shown = ", ".join(f"{names[k]} is {_kind(kinds[k])}" for k in odd[:_NAMED])
    more = f", and {len(odd) - _NAMED} more differ" if len(odd) > _NAMED else ""
    raise InputError(
        "source",
        str(Path(names[odd[0]]).parent),
        f"holds images of several sizes or types: {shown}{more}; {count} of {len(images)} are "
        f"{_kind(usual)}",
        "keep images of one kind, as many as there are views",
    )


def _kind(kind: tuple[tuple[int, int], np.dtype[Any], bool]) -> str:
    (rows, columns), dtype, from_top = kind
    return f"{rows} x {columns} {dtype}{'' if from_top else ' from MRC'}"


def _content(folder: Path) -> str:
    """Kinds of files in a folder, for a message."""
    if not folder.is_dir():
        return ""
    suffixes = Counter(f.suffix.lower() for f in folder.iterdir() if f.is_file())
    found = ", ".join(f"{n} {suffix or 'without suffix'}" for suffix, n in suffixes.most_common(3))
    return f"; it holds {found}" if found else "; it is empty"
