"""Comparison of two volumes over a region, block by block.

One task reads a block: all of z, some rows, and some columns. Within it, figures are computed over
*pieces*: one row and a range of columns that depends on the region alone. So neither the division into
blocks nor the order of tasks changes a bit of the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.core.parallel import Runner
from ddgm_dist.errors import InputError
from ddgm_dist.paths.place import Place
from ddgm_dist.readers.arrays.dask_arrays import DaskVolume
from ddgm_dist.readers.base import VolumeSource
from ddgm_dist.readers.volumes import open_volume_at
from ddgm_dist.volumes.store import VolumeStore

__all__ = [
    "FileVolume",
    "JointMoments",
    "Pair",
    "Readable",
    "measure_moments",
    "measure_similarity",
]

Readable = VolumeSource | VolumeStore
Floats = NDArray[np.float64]

# Voxels of one volume that a task has in memory, and of a piece.
_BLOCK, _PIECE = 2**22, 2**18
# Edge of the Gaussian window of SSIM at its usual sigma of 1.5, voxels, and half of it.
_WINDOW, _HALO = 11, 5


class FileVolume:
    """A volume that a process opens by its place, also after pickling.

    Otherwise all of a mapped file would be sent to other processes.
    """

    def __init__(self, place: Place) -> None:
        self.place, self._source = place, open_volume_at(place)

    @property
    def shape(self) -> Triple:
        """Extent ``(z, y, x)``, voxels."""
        return self._source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the stored array."""
        return self._source.dtype

    def read(self, box: Box) -> NDArray[np.float32]:
        """The values of a box within the shape."""
        return self._source.read(box)

    def __reduce__(self) -> tuple[type[FileVolume], tuple[Place]]:
        return FileVolume, (self.place,)


@dataclass(frozen=True)
class Pair:
    """A region of a volume and the same of its reference.

    Attributes
    ----------
    volume, reference
        The two volumes.
    box
        The region, in voxels of the volume.
    offset
        Position of the volume's first voxel in the reference, ``(z, y, x)``.
    """

    volume: Readable
    reference: Readable
    box: Box
    offset: Triple

    @property
    def piece_columns(self) -> int:
        """Columns of a piece; the last one of a row may have fewer."""
        return max(4 * _HALO, _PIECE // self.box.shape[0])

    def blocks(self) -> list[Box]:
        """The region, divided into boxes of whole pieces, and of whole chunks along y where possible."""
        (z0, y0, x0), (z1, y1, x1) = self.box.start, self.box.stop
        depth, piece = z1 - z0, min(self.piece_columns, x1 - x0)
        grain = max(_chunk_rows(self.volume), _chunk_rows(self.reference))
        grain = max(1, min(grain, 2 * _BLOCK // (depth * piece)))
        columns = max(piece, _BLOCK // (depth * grain) // piece * piece)
        rows = grain
        if columns >= x1 - x0:
            rows *= max(1, _BLOCK // (depth * grain * (x1 - x0)))
        return [
            Box((z0, max(y, y0), x), (z1, min(y + rows, y1), min(x + columns, x1)))
            for y in range(y0 // rows * rows, y1, rows)
            for x in range(x0, x1, columns)
        ]

    def read(self, block: Box) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Volume and reference over a box of the volume."""
        start = [a + d for a, d in zip(block.start, self.offset, strict=True)]
        stop = [b + d for b, d in zip(block.stop, self.offset, strict=True)]
        there = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
        return self.volume.read(block), self.reference.read(there)

    def pieces(self, block: Box) -> Iterator[Box]:
        """The pieces of a block, in order."""
        (z0, y0, x0), (z1, y1, x1) = block.start, block.stop
        for y in range(y0, y1):
            for x in range(x0, x1, self.piece_columns):
                yield Box((z0, y, x), (z1, y + 1, min(x + self.piece_columns, x1)))


def _chunk_rows(source: Readable) -> int:
    """Rows that a source reads or computes together."""
    if isinstance(source, VolumeStore):
        return source.layout.chunk[1]
    return source.chunk[1] if isinstance(source, DaskVolume) else 1


@dataclass(frozen=True)
class JointMoments:
    """Figures of a region, in float64.

    Attributes
    ----------
    mse
        Mean squared difference.
    variance
        Variance of the reference.
    span
        Largest minus smallest value of the reference.
    """

    mse: float
    variance: float
    span: float


class _Part(NamedTuple):
    """Figures of a piece: ``square`` is the sum of the squared deviations from ``mean``."""

    voxels: int
    error: float
    mean: float
    square: float
    low: float
    high: float


class _Bad(NamedTuple):
    """NaN and infinite voxels: in which argument, how many, within which box."""

    argument: str
    voxels: int
    box: Box


def measure_moments(pair: Pair, run: Runner) -> JointMoments:
    """Mean squared difference, and variance and range of the reference.

    Raises
    ------
    InputError
        There are NaN or infinite voxels in the region.
    StorageError
        A volume cannot be read.
    """
    results = list(run(_moments, pair, pair.blocks()))
    bad = [found for _, founds in results for found in founds]
    for argument in ("volume", "reference"):
        _refuse([found for found in bad if found.argument == argument])
    parts = [part for parts, _ in results for part in parts]
    # Exact sums of deviations from the pieces' means: no cancellation, and independent of the order.
    total = sum(part.voxels for part in parts)
    mean = math.fsum(part.voxels * part.mean for part in parts) / total
    between = math.fsum(part.voxels * (part.mean - mean) ** 2 for part in parts)
    return JointMoments(
        mse=math.fsum(part.error for part in parts) / total,
        variance=(math.fsum(part.square for part in parts) + between) / total,
        span=max(part.high for part in parts) - min(part.low for part in parts),
    )


def _moments(pair: Pair, block: Box) -> tuple[list[_Part], list[_Bad]]:
    ours, theirs = pair.read(block)
    bad = [*_find_bad("volume", ours, block), *_find_bad("reference", theirs, block)]
    if bad:
        return [], bad
    parts = []
    for piece in pair.pieces(block):
        a, b = _cut(ours, block, piece), _cut(theirs, block, piece)
        mean = float(b.mean())
        error, square = float(((a - b) ** 2).sum()), float(((b - mean) ** 2).sum())
        parts.append(_Part(piece.size, error, mean, square, float(b.min()), float(b.max())))
    return parts, []


def _cut(values: NDArray[np.float32], block: Box, piece: Box) -> Floats:
    """A piece ``(z, x)``; contiguous, as numpy's sums depend on how their terms lie in memory."""
    z, y, x = piece.slices(block.start)
    return np.ascontiguousarray(values[z, y.start, x], dtype=np.float64)


def _find_bad(argument: str, values: NDArray[np.float32], block: Box) -> list[_Bad]:
    bad = ~np.isfinite(values)
    if not bad.any():
        return []
    at = [np.flatnonzero(bad.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    (z, z1), (y, y1), (x, x1) = ((int(a[0]), int(a[-1]) + 1) for a in at)
    (z0, y0, x0) = block.start
    box = Box((z0 + z, y0 + y, x0 + x), (z0 + z1, y0 + y1, x0 + x1))
    return [_Bad(argument, int(np.count_nonzero(bad)), box)]


def _refuse(bad: list[_Bad]) -> None:
    if not bad:
        return
    start = [min(found.box.start[axis] for found in bad) for axis in range(3)]
    stop = [max(found.box.stop[axis] for found in bad) for axis in range(3)]
    where = ",".join(f"{a}:{b}" for a, b in zip(start, stop, strict=True))
    raise InputError(
        bad[0].argument,
        f"{sum(found.voxels for found in bad)} NaN or infinite voxels",
        f"they lie in {where}, where it cannot be compared",
        "a part that was never written, or was lost, reads as NaN",
    )


def measure_similarity(pair: Pair, span: float, run: Runner) -> float | None:
    """SSIM of the (z, x) slices, mean over rows; None where the region is smaller than its window.

    Pixels less than half a window from the edges of a slice do not count. A block is read with half a
    window more on each side along x, so its part of the map equals that of the slice.

    Parameters
    ----------
    pair
        The region of the two volumes.
    span
        Range of values; the constants of SSIM are fractions of it.
    run
        Runs the tasks; `open_scheduler` yields it.

    Raises
    ------
    StorageError
        A volume cannot be read.
    """
    depth, rows, width = pair.box.shape
    if min(depth, width) < _WINDOW:
        return None
    sums = [total for block in run(_similarity, (pair, span), pair.blocks()) for total in block]
    return math.fsum(sums) / (rows * (width - 2 * _HALO))


def _similarity(task: tuple[Pair, float], block: Box) -> list[float]:
    """Mean over z of each piece's SSIM map, summed over the columns that count."""
    pair, span = task
    (z0, y0, x0), (z1, y1, x1) = block.start, block.stop
    left, right = pair.box.x.start, pair.box.x.stop
    wide = Box((z0, y0, max(x0 - _HALO, left)), (z1, y1, min(x1 + _HALO, right)))
    ours, theirs = pair.read(wide)
    sums = []
    for piece in pair.pieces(block):
        start, stop = max(piece.x.start, left + _HALO), min(piece.x.stop, right - _HALO)
        if start >= stop:
            continue
        (_, y, _) = piece.start
        seen = Box((z0, y, start - _HALO), (z1, y + 1, stop + _HALO))
        mean = structural_similarity(  # type: ignore[no-untyped-call]
            _cut(theirs, wide, seen),
            _cut(ours, wide, seen),
            data_range=span,
            gaussian_weights=True,
            use_sample_covariance=False,
        )
        sums.append(float(mean) * (stop - start))
    return sums
