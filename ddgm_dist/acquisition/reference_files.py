"""Dark and flat fields, and the beam of each view, from files of their own."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ddgm_dist.acquisition.field_rows import match_rows
from ddgm_dist.acquisition.prepared import Reference
from ddgm_dist.acquisition.reference_arrays import find_reference_array
from ddgm_dist.acquisition.source import Source
from ddgm_dist.acquisition.sources import open_source
from ddgm_dist.acquisition.survey import mean_frame
from ddgm_dist.acquisition.upright import FromBottom
from ddgm_dist.errors import InputError
from ddgm_dist.readers.base import ArrayVolume, VolumeSource
from ddgm_dist.readers.images.stack import open_image_files
from ddgm_dist.readers.text import number, read_text, shown
from ddgm_dist.tilts.provenance import Provenance

__all__ = ["read_field", "read_levels", "read_reference"]


def read_reference(path: Path, size: tuple[int, int], argument: str) -> Reference:
    """A dark or flat field: the mean of the images in a file, in its own order of rows.

    Parameters
    ----------
    path
        An image, or a stack of them, in any format that a source may have. Where it holds several
        arrays, see `ddgm_dist.acquisition.reference_arrays`.
    size
        Rows and columns of the images that it belongs to.
    argument
        Name of the option, for messages.

    Raises
    ------
    InputError
        It cannot be read, or it is of another size.
    """
    return Reference(mean_frame(_images_of_size(path, size, argument)))


def read_field(path: Path, source: Source, argument: str, record: Provenance) -> Reference:
    """A dark or flat field of a source, as `read_reference`, with the rows in the source's order.

    Parameters
    ----------
    path, argument
        See `read_reference`.
    source
        The source that it belongs to.
    record
        Takes what was assumed of the rows; see `ddgm_dist.acquisition.field_rows`.

    Raises
    ------
    InputError
        It cannot be read, it is of another size, or the views contradict the order of its rows.
    """
    images = _images_of_size(path, source.stack.shape[1:], argument)
    field = match_rows(mean_frame(images), images, path, source, argument, record)
    return Reference(field)


def _images_of_size(path: Path, size: tuple[int, int], argument: str) -> VolumeSource:
    stack = _images(path, size, argument)
    if stack.shape[1:] != size:
        raise InputError(
            argument, str(path), f"holds images of {stack.shape[1:]}, the source of {size} pixels"
        )
    return stack


def _images(path: Path, size: tuple[int, int], argument: str) -> VolumeSource:
    """The image or images of a file; errors name the option that it was given to."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            image = np.load(path, mmap_mode="r", allow_pickle=False)
            if image.ndim == 2:
                return ArrayVolume(np.asarray(image)[None], str(path))
        if suffix == ".png":
            return FromBottom(open_image_files([path]))
        found = find_reference_array(path, size, argument)
        return open_source(path, angles=False).stack if found is None else found
    except InputError as error:
        raise InputError(argument, str(path), error.why, error.hint) from error
    except (OSError, ValueError, EOFError, struct.error, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(argument, str(path), f"cannot be read as an image ({error})") from error


def read_levels(path: Path, views: int) -> tuple[float, ...]:
    """Counts of the beam for each view of a source, one per line.

    Raises
    ------
    InputError
        The file holds something else than positive numbers, or not one for each view.
    """
    levels = list[float]()
    for line, text in enumerate(read_text(path, "counts").splitlines(), 1):
        words = text.split("#")[0].split()
        if not words:
            continue
        try:
            (level,) = (number(word) for word in words)
        except ValueError as error:
            raise InputError(
                "counts", str(path), f"line {line} is no single number: {shown(text)}"
            ) from error
        if not (np.isfinite(level) and level > 0):
            raise InputError("counts", str(path), f"line {line} is {level:g}: it must be positive")
        levels.append(level)
    if len(levels) != views:
        raise InputError(
            "counts",
            str(path),
            f"has {len(levels)} numbers, and the source {views} views",
            "give one for each stored view, also for those that are left out",
        )
    return tuple(levels)
