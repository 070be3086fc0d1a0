"""The header of a ``.npy`` file, as numpy's own format module reads it."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

__all__ = ["NpyHeader", "npy_header"]


@dataclass(frozen=True)
class NpyHeader:
    """Layout of the array that follows.

    Attributes
    ----------
    shape
        Extent of its axes.
    dtype
        Dtype of its values, with the byte order.
    fortran
        Whether the first axis varies fastest.
    offset
        Bytes from the start of the header to the first value.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes that the values take, if they are not pickled."""
        return math.prod(self.shape) * self.dtype.itemsize


def npy_header(file: IO[bytes]) -> NpyHeader:
    """Read the header at the start of a file, or of a member of an archive.

    Raises
    ------
    ValueError
        It is none, or of a version that is only for structured arrays, or damaged.
    """
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(
            f"version {version[0]}.{version[1]} of the format is not read, which is for "
            "structured arrays"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numbers as Python 2 wrote them
            shape, fortran, dtype = readers[version](file)
    except Exception as error:  # the header is Python's text, and so are the errors
        raise ValueError(f"its header is damaged: {error}") from error
    if any(n < 0 for n in shape):
        raise ValueError(f"its header states the shape {shape}")
    return NpyHeader(tuple(int(n) for n in shape), dtype, bool(fortran), file.tell())
