"""The interface of all readers of three-dimensional data: shape, dtype, and reading boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.core.float32 import as_float32
from ddgm_dist.errors import InputError

__all__ = ["ArrayVolume", "VolumeSource", "check_box", "check_numbers"]


@runtime_checkable
class VolumeSource(Protocol):
    """Three-dimensional data read box by box, never as a whole.

    Axes are ``(z, y, x)`` for a volume; a stack of projections read from a file is
    ``(tilt, row, column)``.
    """

    @property
    def shape(self) -> Triple:
        """Extent of the three axes."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the stored values."""
        ...

    def read(self, box: Box) -> NDArray[np.float32]:
        """The values of a box within the shape, as a fresh float32 array."""
        ...


class ArrayVolume:
    """An array in memory, or mapped from a file, as a `VolumeSource`."""

    def __init__(self, data: NDArray[Any], name: str = "array") -> None:
        self.shape: Triple = check_numbers(name, data.shape, data.dtype)
        self.dtype: np.dtype[Any] = data.dtype
        self._data, self._name = data, name

    def read(self, box: Box) -> NDArray[np.float32]:
        """The values of a box.

        Raises
        ------
        IndexError
            The box reaches outside the array.
        InputError
            A value is beyond float32.
        """
        check_box(box, self.shape)
        return as_float32(self._data[box.slices()], "source", self._name, box.start)


def check_box(box: Box, shape: Triple) -> None:
    """Raise IndexError unless the box lies within the shape (numpy would shorten it silently)."""
    if min(box.start) < 0 or any(b > n for b, n in zip(box.stop, shape, strict=True)):
        raise IndexError(f"box {box.start}..{box.stop} is not within the shape {shape}")


def check_numbers(name: str | Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Triple:
    """The shape, if it and the dtype are those of a stack of real numbers.

    Raises
    ------
    InputError
        Not three axes, an empty one, or complex numbers, text or colours.
    """
    if len(shape) != 3 or 0 in shape:
        raise InputError("source", str(name), f"must have three axes, none empty; it is {shape}")
    if dtype.kind not in "fiu":
        raise InputError("source", str(name), f"holds {dtype}, which are not real numbers")
    return (shape[0], shape[1], shape[2])
