"""Grey pages of TIFF and BigTIFF files, read in parts."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.readers.images.tiff_checks import (
    check_page,
    leading_axes,
    offsets_of_pages,
    refuse_frames,
)
from ddgm_dist.readers.magic import head_of, mislabelled
from ddgm_dist.readers.stored_array import FileState, StoredArray, file_state, open_unchanged

__all__ = ["TIFF_SUFFIXES", "TiffPage", "tiff_pages"]

TIFF_SUFFIXES = (".tif", ".tiff")

_log = logging.getLogger("ddgm_dist")


@dataclass(frozen=True)
class TiffPage:
    """A grey page of a TIFF file. It holds no open file, so it can be pickled.

    Attributes
    ----------
    path
        Absolute path of the file.
    name
        Name for messages.
    state
        State of the file when it was opened.
    directory
        Byte at which the page's directory begins.
    begin
        Byte at which the pixels begin, if they are stored as they are; None otherwise.
    shape
        ``(row, column)``.
    dtype
        Dtype of the values.
    white
        Stored value of black where the smallest is white; None where the smallest is black.
    whole
        Whether the page can be decoded as a whole only.
    from_top
        Whether the first row is the upper one.
    """

    path: Path
    name: str
    state: FileState
    directory: int
    begin: int | None
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    white: int | None
    whole: bool
    from_top: bool

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """The values of a part of the page.

        Raises
        ------
        InputError
            The file is damaged, or was changed since it was opened.
        StorageError
            The file cannot be read.
        """
        if self.begin is None:
            part = self._decoded(rows, columns)
        else:
            shape = (1, *self.shape)
            stored = StoredArray(self.path, self.name, self.state, self.begin, self.dtype, shape)
            part = stored.block(Box((0, rows.start, columns.start), (1, rows.stop, columns.stop)))[
                0
            ]
        return part if self.white is None else self.white - part

    def _decoded(self, rows: slice, columns: slice) -> NDArray[Any]:
        try:
            part = np.empty((rows.stop - rows.start, columns.stop - columns.start), self.dtype)
            if not part.size:
                return part
            with (
                open_unchanged(self.path, self.state, self.name) as file,
                tifffile.TiffFile(self.path, is_ome=False) as tif,
            ):
                tif.filehandle.seek(self.directory)
                page = tifffile.TiffPage(tif, index=0)
                for index in _segments(page, rows, columns):
                    _paste(part, rows.start, columns.start, *_segment(file, page, index))
        except (InputError, StorageError):
            raise
        except Exception as error:  # each decoder raises its own types
            raise InputError(
                "source", self.name, f"is not a readable image ({error})", "copy it again"
            ) from error
        return part


def tiff_pages(path: Path) -> list[TiffPage]:
    """The pages of a file, all grey and of one size and type.

    Thumbnails and masks are left out, with a warning. Images whose smallest value is white are inverted,
    with a warning.

    Raises
    ------
    InputError
        The file is missing, damaged or cut short; or holds colours, palettes, frames of a detector,
        pages of several sizes, or more than one axis besides rows and columns.
    """
    name = str(path)
    try:
        state = file_state(path)
        with path.open("rb") as file:
            directories = offsets_of_pages(file, state[0])
        with tifffile.TiffFile(path, is_ome=False) as tif:
            refuse_frames(tif.pages.first, name)
            pages = _pages(tif, path, state, directories)
    except InputError:
        raise
    except Exception as error:  # the library raises many types for damaged files
        why, hint = mislabelled(head_of(path), b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") or (
            error,
            "",
        )
        raise InputError("source", name, f"is not a readable TIFF ({why})", hint) from error
    if pages[0].white is not None:
        _log.warning("%s: its smallest value is white: its values are inverted", name)
    return pages


def _pages(
    tif: tifffile.TiffFile, path: Path, state: FileState, directories: list[int]
) -> list[TiffPage]:
    name, size = str(path), state[0]
    found: list[TiffPage] = []
    left_out = 0
    for number, directory in enumerate(directories, 1):
        tif.filehandle.seek(directory)
        page = tifffile.TiffPage(tif, index=number - 1)
        if page.subfiletype & 0b101:  # a thumbnail or a mask
            left_out += 1
            continue
        where = f"{name}, page {number}" if len(directories) > 1 else name
        white = check_page(page, size, where)
        rows, columns = page.shape
        order = tif.byteorder if page.is_final else "="
        one = TiffPage(
            path=path.absolute(),
            name=where,
            state=state,
            directory=directory,
            begin=page.dataoffsets[0] if page.is_final else None,
            shape=(int(rows), int(columns)),
            dtype=np.dtype(page.dtype).newbyteorder(order),
            white=white,
            whole=not page.is_final and len(page.dataoffsets) == 1,
            from_top=page.tags.valueof(274, default=1) != 4,
        )
        if found and _described(one) != _described(found[0]):
            raise InputError(
                "source",
                where,
                f"is {_described(one)}, but the first page is {_described(found[0])}",
                "keep one size and type in a file",
            )
        found.append(one)
    if not found:
        raise ValueError("no page holds an image")
    if left_out:
        _log.warning("%s: leaves out %d thumbnails or masks", name, left_out)
    return _as_axes(tif, found, size, name)


def _as_axes(tif: tifffile.TiffFile, found: list[TiffPage], size: int, name: str) -> list[TiffPage]:
    """The pages as the axes that the file describes; it may describe more images than directories."""
    axes, exact = leading_axes(tif.pages.first)
    if len(axes) > 1:
        raise InputError(
            "source",
            name,
            f"has several axes besides rows and columns: {axes}",
            "save one image for each view",
        )
    planes = math.prod(axes.values())
    first = found[0]
    if len(found) == 1 and planes > 1 and first.begin is not None:
        # ImageJ writes one directory for a file beyond 4 GiB, tifffile if it is asked to.
        nbytes = math.prod(first.shape) * first.dtype.itemsize
        if first.begin + planes * nbytes > size:
            raise InputError(
                "source", name, f"is cut short: {planes} images do not fit into it", "copy it again"
            )
        return [replace(first, begin=first.begin + k * nbytes) for k in range(planes)]
    if planes > len(found) or (exact and planes != len(found)):
        raise InputError(
            "source",
            name,
            f"describes {planes} images, but holds {len(found)}",
            "copy it again, or save all images in one file",
        )
    return found


def _described(page: TiffPage) -> str:
    light = "" if page.white is None else ", white as its smallest value"
    start = "" if page.from_top else ", from the bottom"
    return f"{page.shape} {page.dtype.newbyteorder('=')}{light}{start}"


def _segments(page: tifffile.TiffPage, rows: slice, columns: slice) -> list[int]:
    """Numbers of the strips or tiles that have pixels of a part of a page."""
    if not page.is_tiled:
        step = page.rowsperstrip
        return list(range(rows.start // step, -(-rows.stop // step)))
    across = -(-page.imagewidth // page.tilewidth)
    return [
        down * across + k
        for down in range(rows.start // page.tilelength, -(-rows.stop // page.tilelength))
        for k in range(columns.start // page.tilewidth, -(-columns.stop // page.tilewidth))
    ]


def _segment(file: int, page: tifffile.TiffPage, index: int) -> tuple[NDArray[Any], int, int]:
    """A decoded strip or tile, and the row and column where it begins."""
    begin, count = page.dataoffsets[index], page.databytecounts[index]
    data = os.pread(file, count, begin)
    if len(data) != count:
        raise ValueError(f"it ends at byte {begin + len(data)}, before its pixels do")
    values, (_, _, row, column, _), _ = page.decode(
        data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader
    )
    if values is None:
        raise ValueError(f"part {index} of its pixels is empty")
    return values.reshape(values.shape[1:3]), row, column


def _paste(
    part: NDArray[Any], top: int, left: int, values: NDArray[Any], row: int, column: int
) -> None:
    """Copy what a strip or tile has of a part whose first pixel is ``(top, left)``."""
    height, width = part.shape
    i0, i1 = max(top, row), min(top + height, row + values.shape[0])
    j0, j1 = max(left, column), min(left + width, column + values.shape[1])
    part[i0 - top : i1 - top, j0 - left : j1 - left] = values[
        i0 - row : i1 - row, j0 - column : j1 - column
    ]
