"""The shape of a volume: its extent, its shards and chunks, and the digest of a block."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.errors import PlanError

__all__ = ["VolumeLayout", "as_triple", "block_digest"]


@dataclass(frozen=True)
class VolumeLayout:
    """Division of a volume on disk; all triples are voxels ``(z, y, x)``.

    Attributes
    ----------
    shape
        Extent of the volume.
    shard
        Extent of a file, the unit of writing; a multiple of ``chunk`` along each axis. It may
        exceed ``shape``.
    chunk
        Extent of the unit of reading.
    """

    shape: Triple
    shard: Triple
    chunk: Triple

    def __post_init__(self) -> None:
        if min(*self.shape, *self.shard, *self.chunk) < 1:
            raise PlanError("layout", self, "every extent must be at least 1 voxel")
        if any(s % c for s, c in zip(self.shard, self.chunk, strict=True)):
            raise PlanError("shard", self.shard, f"must be a multiple of the chunk {self.chunk}")

    def covers_whole_shards(self, box: Box) -> bool:
        """Return whether the box is not empty and made of whole shards, clipped by the volume's edge."""
        axes = zip(box.start, box.stop, self.shard, self.shape, strict=True)
        return all(0 <= a < b <= n and a % s == 0 and (b % s == 0 or b == n) for a, b, s, n in axes)

    @property
    def grid(self) -> Triple:
        """Number of shards along each axis."""
        z, y, x = (-(-n // s) for n, s in zip(self.shape, self.shard, strict=True))
        return (z, y, x)

    def shards_of(self, box: Box) -> tuple[slice, slice, slice]:
        """Indices of the shards that a box of whole shards is made of."""
        z, y, x = (
            slice(a // s, -(-b // s))
            for a, b, s in zip(box.start, box.stop, self.shard, strict=True)
        )
        return (z, y, x)


def block_digest(block: NDArray[Any]) -> str:
    """BLAKE2b-128 (hex) of the voxels as little-endian float32 in ``(z, y, x)`` order."""
    data = np.ascontiguousarray(block, dtype="<f4")
    return hashlib.blake2b(data.data, digest_size=16).hexdigest()


def as_triple(extent: tuple[int, ...]) -> Triple:
    z, y, x = extent
    return (z, y, x)
