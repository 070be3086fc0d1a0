"""Dask arrays as volumes."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.core.float32 import as_float32
from ddgm_dist.errors import InputError
from ddgm_dist.readers.base import check_box, check_numbers

if TYPE_CHECKING:
    import dask.array as da
    from typing_extensions import TypeIs

__all__ = ["DaskVolume", "is_dask_array"]


def is_dask_array(value: object) -> TypeIs[da.Array]:
    """Return whether a value is a dask array; dask is not imported for that."""
    module = sys.modules.get("dask.array")
    return module is not None and isinstance(value, module.Array)


class DaskVolume:
    """A dask array as a `VolumeSource`: reading a box computes the chunks that it touches.

    Parameters
    ----------
    array
        ``(z, y, x)``, of real numbers.
    name
        Name for messages.
    scheduler
        Scheduler of dask for the chunks of a box; None takes dask's setting, threads by default. What
        reads boxes in parallel says ``sync``.

    Raises
    ------
    InputError
        The array has not three axes, or its shape is unknown, or it holds no real numbers.
    """

    def __init__(self, array: da.Array, name: str, scheduler: str | None = None) -> None:
        if any(math.isnan(n) for n in array.shape):
            raise InputError(
                "source", name, "its shape is unknown", "call its compute_chunk_sizes() first"
            )
        self.shape: Triple = check_numbers(name, array.shape, array.dtype)
        self.dtype: np.dtype[Any] = array.dtype
        self.chunk: Triple = tuple(max(sizes) for sizes in array.chunks)
        self._array, self._scheduler, self._name = array, scheduler, name

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
        block = self._array[box.slices()].compute(scheduler=self._scheduler)
        return as_float32(np.asarray(block), "source", self._name, box.start)
