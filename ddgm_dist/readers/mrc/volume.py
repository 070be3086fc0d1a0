"""MRC and MRC-like stacks (``.mrc``, ``.st``, ``.ali``, ``.rec``), read box by box."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.core.float32 import as_float32
from ddgm_dist.errors import InputError
from ddgm_dist.readers.base import check_box, check_numbers
from ddgm_dist.readers.mrc.header import MrcHeader, read_header
from ddgm_dist.readers.mrc.layout import first_pixel, pixels_from
from ddgm_dist.readers.mrc.orientation import (
    check_pixels,
    check_views,
    order,
    rows_from_top,
    warn_of_reconstruction,
)
from ddgm_dist.readers.mrc.sign import byte_reading, word_reading
from ddgm_dist.readers.mrc.statistics import warn_of_strange_values
from ddgm_dist.readers.stored_array import Stored, StoredArray, file_state

__all__ = ["MRC_SUFFIXES", "MrcVolume", "open_mrc"]

MRC_SUFFIXES = (".mrc", ".mrcs", ".st", ".ali", ".rec", ".map")
_ANGLE_SUFFIXES = (".tlt", ".rawtlt")  # refined angles first

_log = logging.getLogger("ddgm_dist")


class MrcVolume:
    """An MRC file as a `VolumeSource`; made by `open_mrc`.

    Parameters
    ----------
    stored
        The pixels ``(section, row, column)``.
    name
        Name for messages.
    pixel_size_nm
        From the header's cell, nanometres; None when the header has none.
    axes
        Axes that transpose the stored ones to ``(z, y, x)``.
    upside_down
        Whether the stored rows are in the reverse order.
    added
        Number to add to the stored values.

    Raises
    ------
    InputError
        It is no stack of real numbers.
    """

    def __init__(
        self,
        stored: Stored,
        name: str,
        pixel_size_nm: float | None,
        axes: Triple = (0, 1, 2),
        *,
        upside_down: bool = False,
        added: int = 0,
    ) -> None:
        shape = check_numbers(name, stored.shape, stored.dtype)
        self.shape: Triple = (shape[axes[0]], shape[axes[1]], shape[axes[2]])
        self.dtype: np.dtype[Any] = np.dtype(np.uint8) if added else stored.dtype
        self.pixel_size_nm = pixel_size_nm
        self._stored, self._name, self._axes = stored, name, axes
        self._upside_down, self._added = upside_down, added

    def read(self, box: Box) -> NDArray[np.float32]:
        """The values of a box.

        Raises
        ------
        IndexError
            The box reaches outside the file.
        InputError
            The file was changed since it was opened.
        StorageError
            The file cannot be read.
        """
        check_box(box, self.shape)
        start, stop = [0, 0, 0], [0, 0, 0]
        for k, axis in enumerate(self._axes):
            start[axis], stop[axis] = box.start[k], box.stop[k]
        if self._upside_down:
            rows = self._stored.shape[1]
            start[1], stop[1] = rows - stop[1], rows - start[1]
        stored = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
        values = self._stored.block(stored)
        if self._upside_down:
            values = values[:, ::-1]
        block = as_float32(
            values.transpose(self._axes), "source", self._name, box.start, copy=False
        )
        if self._added:
            block += np.float32(self._added)
        return block


def open_mrc(path: Path, *, tilt_series: bool = False) -> MrcVolume:
    """Open an MRC file, in either byte order; only its header and a sample are read.

    Header, size of the file and statistics are compared. A departure from the standard that leaves
    one meaning is corrected, with a warning. Axes are transposed to ``(z, y, x)``. Signed bytes of
    IMOD are read as IMOD reads them, with 128 added. Pixels of 4 bits are unpacked.

    Parameters
    ----------
    path
        Path of the file.
    tilt_series
        Whether its sections are to be views. Then axes in another order than x, y and z are refused,
        and so are pixels that are not square. Of volumes the former are transposed, and the latter
        are warned of.

    Raises
    ------
    InputError
        The file is missing, truncated or not MRC; it holds no real numbers or several volumes;
        or its header contradicts itself or the file.
    """
    name = str(path)
    try:
        state = file_state(path)
        header = read_header(path, state[0])
        stored, added = _as_meant(
            header, pixels_from(path, state, header, first_pixel(path, state, header)), name
        )
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("source", name, f"cannot be read as MRC ({error})") from error
    if tilt_series:
        check_views(header, name)
    else:
        warn_of_reconstruction(header, name)
    upside_down = rows_from_top(header)
    if upside_down:
        _log.warning(
            "%s: its rows begin at the top, as in the first files with FEI's header: they are put "
            "in the order of MRC, as IMOD does",
            name,
        )
    warn_of_strange_values(header, stored, name)
    return MrcVolume(
        stored,
        name,
        check_pixels(header, name, refuse=tilt_series),
        order(header),
        upside_down=upside_down,
        added=added,
    )


def _as_meant(header: MrcHeader, stored: Stored, name: str) -> tuple[Stored, int]:
    """The values with their sign, and the number to add to them."""
    if not isinstance(stored, StoredArray):
        return stored, 0
    match header.dtype.kind, header.dtype.itemsize:
        case "i" | "u", 1:
            kind, added = byte_reading(header, stored, name)
            return replace(stored, dtype=np.dtype(kind)), added
        case "i" | "u", 2:
            kind = word_reading(header, stored, name)
            return replace(stored, dtype=np.dtype(f"{header.dtype.byteorder}{kind}")), 0
    return stored, 0
