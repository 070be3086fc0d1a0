"""A volume as a lazy dask array."""

from __future__ import annotations

import math
from typing import Protocol

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.volumes.layout import VolumeLayout

__all__ = ["as_dask", "dask_chunks"]


# Most voxels of a dask chunk: 128 MiB.
_MOST = 2**25


class Readable(Protocol):
    """A volume that is read by boxes."""

    @property
    def layout(self) -> VolumeLayout:
        """Extent, shards and chunks of the volume."""

    def read(self, box: Box) -> NDArray[np.float32]:
        """Voxels ``(z, y, x)`` of a box."""


def as_dask(store: Readable) -> da.Array:
    """The voxels ``(z, y, x)`` as float32; reading goes through `VolumeStore.read`.

    The array can be pickled: other processes open the store by its path.
    """
    array: da.Array = da.from_array(  # type: ignore[no-untyped-call]
        _View(store), chunks=dask_chunks(store.layout), meta=np.empty((0, 0, 0), np.float32)
    )
    return array


def dask_chunks(layout: VolumeLayout) -> Triple:
    """Chunks of whole shards, 64 to 128 MiB each where the volume is that large.

    Shards that are larger than that are split into whole chunks.
    """
    shape = layout.shape
    unit = layout.shard if math.prod(map(min, layout.shard, shape)) <= _MOST else layout.chunk
    size = [min(u, n) for u, n in zip(unit, shape, strict=True)]
    for axis in (2, 1, 0):
        times = max(1, _MOST // math.prod(size))
        size[axis] = min(unit[axis] * times, shape[axis])
    return (size[0], size[1], size[2])


class _View:
    """A store that dask reads by slices and integers."""

    ndim = 3
    dtype = np.dtype(np.float32)

    def __init__(self, store: Readable) -> None:
        self.store, self.shape = store, store.layout.shape

    def __getitem__(self, index: tuple[slice | int, ...]) -> NDArray[np.float32]:
        start, stop, rest = [], [], list[slice | int]()
        for part, extent in zip(index, self.shape, strict=True):
            taken = range(extent)[part]
            inside: slice | int
            if isinstance(taken, int):
                low, high, inside = taken, taken + 1, 0
            elif len(taken) == 0:
                low, high, inside = 0, 0, slice(None)
            else:
                low, high = min(taken[0], taken[-1]), max(taken[0], taken[-1]) + 1
                inside = slice(None, None, taken.step)
            start.append(low)
            stop.append(high)
            rest.append(inside)
        box = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
        return self.store.read(box)[tuple(rest)]
