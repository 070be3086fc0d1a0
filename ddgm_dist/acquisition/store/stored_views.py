"""Views that are read whole and kept beside the store, until they are transposed.

Workers import this module, so nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from ddgm_dist.acquisition.store.target import Floats, Shape, Target, open_array, steps
from ddgm_dist.core.box import Box
from ddgm_dist.core.float32 import as_float32
from ddgm_dist.paths.array_io import BulkArray
from ddgm_dist.paths.place import Place
from ddgm_dist.paths.zarr_store import zarr_store
from ddgm_dist.tile.host import give_back_memory

__all__ = ["Keeping", "StoredViews", "create_views", "keep_view"]

_BAND_BYTES = 32 * 2**20


class StoredViews:
    """Views that have been read and kept beside the store, to be read by rows; can be pickled.

    Parameters
    ----------
    place
        Place of the array.
    shape, dtype
        Shape and dtype of the store.
    rows
        Rows of its chunks, each of one view.
    """

    by_view = False

    def __init__(self, place: Place, shape: Shape, dtype: np.dtype[Any], rows: int) -> None:
        self.place, self.shape, self.dtype, self.rows = place, shape, dtype, rows

    def __getstate__(self) -> dict[str, Any]:
        """Open arrays do not cross process borders."""
        return {k: v for k, v in self.__dict__.items() if k != "array"}

    @cached_property
    def array(self) -> BulkArray:
        """The array."""
        return open_array(self.place)

    def read(self, box: Box) -> Floats:
        """The pixels of a box."""
        block = self.array.read(box.slices())
        return as_float32(block, "source", self.place, box.start, copy=False)


@dataclass(frozen=True)
class Keeping:
    """Views that are read, and where they are kept."""

    target: Target
    views: StoredViews


def keep_view(common: Keeping, tilt: int) -> None:
    """Read one view, in bands, and keep it beside the store.

    Raises
    ------
    InputError
        The source cannot be read, or a pixel cannot be stored.
    StorageError
        It cannot be written, or another process has taken over.
    """
    target, views = common.target, common.views
    target.receipts.check()
    _, height, width = views.shape
    step = max(1, _BAND_BYTES // (4 * width * views.rows)) * views.rows
    for rows in steps(slice(0, height), step):
        stored = target.stored(Box((tilt, rows.start, 0), (tilt + 1, rows.stop, width)))
        views.array.write((slice(tilt, tilt + 1), rows, slice(0, width)), stored)
    target.receipts.add_view(tilt)
    give_back_memory()


def create_views(views: StoredViews) -> None:
    """An empty array for views; not compressed, as it is read once and deleted."""
    zarr.create_array(
        zarr_store(views.place),
        shape=views.shape,
        chunks=(1, min(views.rows, views.shape[1]), views.shape[2]),
        dtype=views.dtype,
        fill_value=float("nan") if views.dtype.kind == "f" else 0,
        serializer=BytesCodec(),
        compressors=Crc32cCodec(),
        zarr_format=3,
        overwrite=True,
    )
