"""Pixels of 4 bits, two in each byte, as IMOD stores them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.readers.base import check_box
from ddgm_dist.readers.stored_array import StoredArray

__all__ = ["PackedArray"]

_PIECE = 2**22  # values handed out at a time


@dataclass(frozen=True)
class PackedArray:
    """Values from 0 to 15; of the two in a byte, the low four bits are the first.

    Attributes
    ----------
    packed
        The bytes ``(section, row, byte)``. A row takes whole bytes.
    columns
        Values in a row; where the number is odd, the last four bits mean nothing.
    """

    packed: StoredArray
    columns: int

    @property
    def shape(self) -> Triple:
        """``(section, row, column)``."""
        return (*self.packed.shape[:2], self.columns)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values, once unpacked."""
        return np.dtype(np.uint8)

    def block(self, box: Box) -> NDArray[Any]:
        """The values of a box; errors are those of `StoredArray.block`."""
        check_box(box, self.shape)
        first, last = box.start[2], box.stop[2]
        whole = Box((*box.start[:2], first // 2), (*box.stop[:2], (last + 1) // 2))
        values = _unpacked(self.packed.block(whole))
        skipped = first % 2
        return np.ascontiguousarray(values[..., skipped : skipped + last - first])

    def pieces(self) -> Iterator[NDArray[Any]]:
        """All values, some rows at a time, as flat arrays."""
        sections, rows, _ = self.shape
        step = min(rows, max(1, _PIECE // self.columns))
        for k in range(sections):
            for i in range(0, rows, step):
                box = Box((k, i, 0), (k + 1, min(i + step, rows), self.columns))
                yield self.block(box).reshape(-1)


def _unpacked(packed: NDArray[Any]) -> NDArray[Any]:
    values = np.empty((*packed.shape[:-1], 2 * packed.shape[-1]), np.uint8)
    np.bitwise_and(packed, 15, out=values[..., 0::2])
    np.right_shift(packed, 4, out=values[..., 1::2])
    return values
