"""MRC and MRC-like stacks (``.mrc``, ``.st``, ``.ali``, ``.rec``), mapped into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.errors import InputError
from ddgm_dist.readers.base import ArrayVolume
from ddgm_dist.readers.mrc_header import MrcHeader, read_header
from ddgm_dist.readers.mrc_layout import (
    byte_reading,
    first_pixel,
    warn_of_strange_values,
    word_reading,
)

__all__ = ["MRC_SUFFIXES", "MrcVolume", "angles_beside", "open_mrc"]

MRC_SUFFIXES = (".mrc", ".mrcs", ".st", ".ali", ".rec", ".map")
_ANGLE_SUFFIXES = (".tlt", ".rawtlt")  # refined angles first


class MrcVolume:
    """An MRC file as a `VolumeSource`; made by `open_mrc`.

    Attributes
    ----------
    pixel_size_nm
        From the header's cell, nanometres; None when the header has none.
    """

    def __init__(
        self, data: NDArray[Any], pixel_size_nm: float | None, name: str, added: int = 0
    ) -> None:
        self._stack, self._added = ArrayVolume(data, name), added
        self.pixel_size_nm = pixel_size_nm

    @property
    def shape(self) -> Triple:
        """``(z, y, x)`` by the axes that the header names: ``(section, row, column)`` as a rule."""
        return self._stack.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values, which is the stored one if nothing is added to them."""
        return np.dtype(np.uint8) if self._added else self._stack.dtype

    def read(self, box: Box) -> NDArray[np.float32]:
        """The values of a box; IndexError when it reaches outside the file."""
        block = self._stack.read(box)
        if self._added:
            block += np.float32(self._added)
        return block


def open_mrc(path: Path) -> MrcVolume:
    """Map an MRC file into memory, in either byte order.

    Header, size of the file and statistics are compared. A departure from the standard that leaves
    one meaning is corrected, with a warning. Axes are transposed to ``(z, y, x)``. Signed bytes of
    IMOD are read as IMOD reads them, with 128 added.

    Raises
    ------
    InputError
        The file is missing, truncated or not MRC; it holds no real numbers or several volumes;
        or its header contradicts itself or the file.
    """
    try:
        size = path.stat().st_size
        header = read_header(path, size)
        stored = np.memmap(path, header.dtype, "r", first_pixel(path, header, size), header.shape)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("source", str(path), f"cannot be read as MRC ({error})") from error
    data, added = _as_meant(header, stored, str(path))
    warn_of_strange_values(header, data, str(path))
    return MrcVolume(data.transpose(header.order), header.pixel_size_nm, str(path), added)


def angles_beside(path: Path) -> Path | None:
    """The ``.tlt`` (refined) or ``.rawtlt`` (nominal) file beside a stack, or None."""
    for suffix in _ANGLE_SUFFIXES:
        for candidate in (path.with_suffix(suffix), Path(f"{path}{suffix}")):
            if candidate.is_file():
                return candidate
    return None


def _as_meant(header: MrcHeader, stored: NDArray[Any], name: str) -> tuple[NDArray[Any], int]:
    """The values with their sign, and the number to add to them."""
    match header.dtype.kind, header.dtype.itemsize:
        case "i" | "u", 1:
            dtype, added = byte_reading(header, stored, name)
            return stored.view(dtype), added
        case "i" | "u", 2:
            return stored.view(f"{header.dtype.byteorder}{word_reading(header, stored, name)}"), 0
    return stored, 0
