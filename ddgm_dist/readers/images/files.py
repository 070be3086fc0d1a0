"""Files of one grey image each: PNG, TIFF and MRC."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.readers.images.tiff import TIFF_SUFFIXES, tiff_pages
from ddgm_dist.readers.magic import head_of, mislabelled
from ddgm_dist.readers.mrc.volume import MRC_SUFFIXES, MrcVolume, open_mrc
from ddgm_dist.readers.stored_array import FileState, file_state, open_unchanged

__all__ = ["Image", "open_image"]

_DTYPES = {"L": "u1", "I;16": "u2", "I;16B": "u2", "I": "i4", "F": "f4"}
_MOVIE = (
    "sum or motion-correct the frames of each view first; a stack of all views is given as the "
    "source itself, not its folder"
)


class Image(Protocol):
    """A grey image that can be read in parts."""

    @property
    def shape(self) -> tuple[int, int]:
        """``(row, column)``."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values."""
        ...

    @property
    def whole(self) -> bool:
        """True if it can be decoded as a whole only."""
        ...

    @property
    def from_top(self) -> bool:
        """True if the first row is the upper one."""
        ...

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """The values of a part."""
        ...


@dataclass(frozen=True)
class PngImage:
    """A PNG image; it is decoded at every read."""

    path: Path
    name: str
    state: FileState
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    whole: bool = True
    from_top: bool = True

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """The values of a part."""
        with open_unchanged(self.path, self.state, self.name):
            try:
                with (
                    self.path.open("rb") as file,
                    _quiet(),
                    Pillow.open(file, formats=["PNG"]) as png,
                ):
                    values = np.asarray(png)
            except Exception as error:  # the decoder raises many types
                raise _unreadable(self.path, self.name, error) from error
        return values[rows, columns].astype(self.dtype)


@dataclass(frozen=True)
class MrcImage:
    """The only section of an MRC file."""

    section: MrcVolume
    whole: bool = False
    from_top: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """``(row, column)``."""
        return self.section.shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values."""
        return self.section.dtype

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """The values of a part, as float32."""
        box = Box((0, rows.start, columns.start), (1, rows.stop, columns.stop))
        image: NDArray[Any] = self.section.read(box)[0]
        return image


def open_image(path: Path) -> Image:
    """Open a file of one grey image; of PNG and TIFF, no pixel is read.

    Raises
    ------
    InputError
        The file is missing, damaged, in colour, or of another format; or it holds several images.
    """
    suffix, name = path.suffix.lower(), str(path)
    if suffix == ".eer":
        raise InputError("source", name, "holds frames of a detector in EER format", _MOVIE)
    if suffix in TIFF_SUFFIXES:
        pages = tiff_pages(path)
        if len(pages) > 1:
            raise InputError(
                "source", name, f"is a movie or a stack of {len(pages)} images, not one", _MOVIE
            )
        return pages[0]
    if suffix in MRC_SUFFIXES:
        section = open_mrc(path, tilt_series=True)
        if section.shape[0] > 1:
            raise InputError(
                "source", name, f"is a movie or a stack of {section.shape[0]} images", _MOVIE
            )
        return MrcImage(section)
    if suffix == ".png":
        return _open_png(path)
    raise InputError("source", name, "is not a PNG, TIFF or MRC image")


def _open_png(path: Path) -> PngImage:
    name = str(path)
    try:
        state = file_state(path)
        with path.open("rb") as file, _quiet(), Pillow.open(file, formats=["PNG"]) as png:
            mode, (columns, rows), frames = png.mode, png.size, getattr(png, "n_frames", 1)
    except Exception as error:  # the decoder raises many types
        raise _unreadable(path, name, error) from error
    if mode not in _DTYPES:
        what = "black and white only" if mode == "1" else f"in colour or transparent ({mode})"
        raise InputError("source", name, f"is {what}", "convert it to grey of 8 or 16 bits")
    if frames > 1:
        raise InputError("source", name, f"is a movie of {frames} images", _MOVIE)
    return PngImage(path.absolute(), name, state, (rows, columns), np.dtype(_DTYPES[mode]))


def _unreadable(path: Path, name: str, error: Exception) -> InputError:
    other = mislabelled(head_of(path), b"\x89PNG\r\n")
    why, hint = other or (f"is not a readable image ({error})", "")
    return InputError("source", name, why, hint)


def _quiet() -> warnings.catch_warnings[None]:
    """No warning of large images, which are meant."""
    return warnings.catch_warnings(action="ignore", category=Pillow.DecompressionBombWarning)
