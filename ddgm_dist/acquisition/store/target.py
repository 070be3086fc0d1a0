"""The store that workers write, and the views that its pixels come from.

Workers import this module, so nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import zarr
from numpy.typing import NDArray

from ddgm_dist.acquisition.store.receipts import Receipts
from ddgm_dist.core.box import Box
from ddgm_dist.core.float32 import as_float32
from ddgm_dist.errors import InputError
from ddgm_dist.paths.array_io import BulkArray
from ddgm_dist.paths.place import Place
from ddgm_dist.paths.zarr_store import zarr_store
from ddgm_dist.tilts.metadata import ARRAY
from ddgm_dist.tilts.strips import Slices

__all__ = ["Floats", "Shape", "Target", "Views", "open_array", "steps"]


Floats = NDArray[np.float32]
Shape = tuple[int, int, int]


class Views(Protocol):
    """Views of a tilt series, to be stored; can be pickled.

    Attributes
    ----------
    by_view
        Whether reading some rows of a view costs about as much as reading all of it, as for images
        that are decoded or rotated whole. Each view is then read once, from its first row to its last.
    """

    @property
    def by_view(self) -> bool:
        """See the attribute."""
        ...

    @property
    def shape(self) -> Shape:
        """``(tilt, y, u)``."""
        ...

    def read(self, box: Box) -> Floats:
        """The pixels of a box as float32 ``(tilt, y, u)``; NaN where nothing was measured."""
        ...


class Target:
    """A store that is being written, and where its pixels come from; can be pickled.

    Parameters
    ----------
    source
        The views, or what has been kept of them.
    work
        Place where the store is written.
    dtype
        Dtype in which pixels are stored.
    name
        Name of the source, for messages.
    receipts
        Where finished blocks are recorded.
    """

    def __init__(
        self, source: Views, work: Place, dtype: np.dtype[Any], name: str, receipts: Receipts
    ) -> None:
        self.source, self.work, self.dtype, self.name = source, work, dtype, name
        self.receipts = receipts
        self.shape, self.may_be_bad = source.shape, dtype.kind == "f"

    def __getstate__(self) -> dict[str, Any]:
        """Open arrays do not cross process borders."""
        return {k: v for k, v in self.__dict__.items() if k != "array"}

    @cached_property
    def array(self) -> BulkArray:
        """The projections of the store."""
        return open_array(self.work / ARRAY)

    def stored(self, box: Box) -> NDArray[Any]:
        """The pixels of a box as they are stored.

        Raises
        ------
        InputError
            A pixel cannot be stored in the dtype without a change.
        """
        values = self.source.read(box)
        if values.shape != box.shape:
            raise ValueError(f"the source read {values.shape} where {box.shape} was asked for")
        return _as_stored(values, self.dtype, self.name, box.start)

    def read(self, rows: slice, columns: slice = slice(None), tilts: slice = slice(None)) -> Floats:
        """Any pixels, as the store will give them."""
        return self.floats(self.stored(self.box((tilts, rows, columns))))

    def read_unchecked(self, block: Slices) -> Floats:
        """As `read`."""
        return self.read(block[1], block[2], block[0])

    def floats(self, stored: NDArray[Any]) -> Floats:
        """Stored pixels as they are read."""
        return as_float32(stored, "source", self.name, copy=False)

    def box(self, parts: Slices) -> Box:
        """A block as a box."""
        bounds = [part.indices(n)[:2] for part, n in zip(parts, self.shape, strict=True)]
        (a, b, c), (d, e, f) = zip(*bounds, strict=True)
        return Box((a, b, c), (d, e, f))


def steps(part: slice, step: int) -> Iterator[slice]:
    """Cut a slice into pieces of so many indices; the last may have fewer."""
    for start in range(part.start, part.stop, step):
        yield slice(start, min(start + step, part.stop))


def open_array(place: Place) -> BulkArray:
    """Open an array ``(tilt, y, u)`` to be read and written, by one core."""
    array = zarr.open_array(zarr_store(place), mode="r+")
    axes = ("tilts", "rows", "columns")
    return BulkArray(array, place, writable=True, axes=axes, complete=True, one_core=True)


def _as_stored(values: Floats, dtype: np.dtype[Any], name: str, origin: Shape) -> NDArray[Any]:
    """The values in the dtype of the store, which must hold them.

    Raises
    ------
    InputError
        It does not: a value is no whole number of its range, or is too large for it.
    """
    if dtype == np.float32:
        return values
    with np.errstate(invalid="ignore", over="ignore"):
        stored = values.astype(dtype)
        if dtype.kind == "f":
            wrong = np.isinf(stored) & np.isfinite(values)
        else:
            wrong = stored.astype(np.float32) != values
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        at = tuple(a + b for a, b in zip(first, origin, strict=True))
        raise InputError(
            "source", name, f"holds {values[first]:g} at {at}, which {dtype} cannot hold"
        )
    return stored
