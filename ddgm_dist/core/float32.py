"""Conversion to float32, the type of all computation, which refuses values that do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.errors import InputError

__all__ = ["as_float32"]

_LARGEST = float(np.finfo(np.float32).max)


def as_float32(
    block: NDArray[Any],
    argument: str,
    name: object,
    origin: Sequence[int] = (),
    *,
    copy: bool = True,
) -> NDArray[np.float32]:
    """A contiguous float32 array with the block's values.

    Parameters
    ----------
    block
        Real numbers. Infinities and NaN are kept.
    argument, name
        Name of the argument that the values were read for, and of their source, for messages.
    origin
        First index of the block along each axis; all zero by default.
    copy
        Whether the result must be a fresh, writable array.

    Raises
    ------
    InputError
        If a finite value exceeds the largest float32, and would become infinite.
    """
    with np.errstate(over="ignore"):
        values = np.array(block, dtype=np.float32, order="C", copy=True if copy else None)
    if block.dtype.kind != "f" or block.dtype.itemsize <= 4:
        return values  # the largest of 64-bit integers is 1.8e19
    lost = np.isinf(values)
    if lost.any():
        lost &= np.isfinite(block)
    if lost.any():
        first = tuple(int(i) for i in np.argwhere(lost)[0])
        at = tuple(a + b for a, b in zip(first, origin or (0,) * block.ndim, strict=True))
        raise InputError(
            argument,
            str(name),
            f"holds {block[first]:g} at {at}, beyond float32's {_LARGEST:.2g}",
            "divide the values, or correct those that stand for something else",
        )
    return values
