"""MRC and MRC-like stacks (``.mrc``, ``.st``, ``.ali``, ``.rec``), mapped into memory."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.formats.base import ArrayVolume, Triple

__all__ = ["MRC_SUFFIXES", "MrcVolume", "angles_beside", "open_mrc"]

MRC_SUFFIXES = (".mrc", ".mrcs", ".st", ".ali", ".rec", ".map")
_ANGLE_SUFFIXES = (".tlt", ".rawtlt")  # refined angles first
# IMOD writes its stamp at byte 152 and flags at 156; without flag 1, bytes (mode 0) are unsigned.
_IMOD_STAMP, _STAMP_AT = 1146047817, 152


class MrcVolume:
    """An MRC file as a `VolumeSource`; made by `open_mrc`.

    Attributes
    ----------
    pixel_size_nm
        From the header's cell, nanometres; None when the header has none.
    """

    def __init__(self, data: NDArray[Any], pixel_size_nm: float | None, name: str) -> None:
        self._stack = ArrayVolume(data, name)
        self.pixel_size_nm = pixel_size_nm

    @property
    def shape(self) -> Triple:
        """``(section, row, column)``."""
        return self._stack.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored dtype."""
        return self._stack.dtype

    def read(self, box: Box) -> NDArray[np.float32]:
        """The values of a box; IndexError when it reaches outside the file."""
        return self._stack.read(box)


def open_mrc(path: str | Path) -> MrcVolume:
    """Map an MRC file into memory.

    Headers that depart from the standard in ways that do not matter here are accepted; bytes
    are unsigned where IMOD says so.

    Raises
    ------
    InputError
        The file is missing, truncated or not MRC, or holds complex numbers.
    """
    file = Path(path)
    try:
        with warnings.catch_warnings():
            # mrcfile warns of every departure from the standard; what matters is checked below.
            warnings.simplefilter("ignore")
            mrc = mrcfile.mmap(file, mode="r", permissive=True)
    except (OSError, ValueError) as error:
        raise InputError("source", str(path), f"cannot be read as MRC ({error})") from error
    if mrc.data is None:
        raise InputError(
            "source", str(path), "is not an MRC file, or is shorter than its header says"
        )
    data: NDArray[Any] = mrc.data
    if data.ndim == 2:
        data = data[np.newaxis]
    if data.dtype == np.int8 and _imod_unsigned(file):
        data = data.view(np.uint8)
    with np.errstate(all="ignore"):  # headers may count zero cells
        angstrom = float(mrc.voxel_size.x)
    size = angstrom / 10 if math.isfinite(angstrom) and angstrom > 0 else None
    return MrcVolume(data, size, str(path))


def angles_beside(path: str | Path) -> Path | None:
    """The ``.tlt`` (refined) or ``.rawtlt`` (nominal) file beside a stack, or None."""
    stem = Path(path)
    for suffix in _ANGLE_SUFFIXES:
        for candidate in (stem.with_suffix(suffix), Path(f"{stem}{suffix}")):
            if candidate.is_file():
                return candidate
    return None


def _imod_unsigned(path: Path) -> bool:
    """Whether IMOD wrote the file and declared its bytes unsigned."""
    with path.open("rb") as file:
        file.seek(_STAMP_AT)
        words = file.read(8)
    for order in "<>":
        stamp, flags = np.frombuffer(words, dtype=f"{order}i4")
        if stamp == _IMOD_STAMP:
            return not flags & 1
    return False
