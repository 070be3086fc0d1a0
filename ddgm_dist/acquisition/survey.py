"""Statistics of all views of a source, each read once and in parallel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box
from ddgm_dist.core.parallel import Runner, map_in_threads
from ddgm_dist.readers.base import VolumeSource
from ddgm_dist.tilts.digests import threads
from ddgm_dist.views.kept_part import KeptPart
from ddgm_dist.views.measure import measure_view
from ddgm_dist.views.statistics import ViewStatistics

__all__ = ["mean_frame", "measure_views"]

# Bytes of an image that are read at a time.
_BAND_BYTES = 32 * 2**20

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class _Task:
    stack: VolumeSource
    despike: bool
    dark: float | Floats


def measure_views(
    stack: VolumeSource,
    views: Sequence[int],
    *,
    despike: bool,
    dark: float | Floats = 0.0,
    kept: Sequence[KeptPart] | None = None,
    run: Runner | None = None,
    report: Callable[[float], None] | None = None,
) -> list[ViewStatistics]:
    """Statistics of some views of a stack, in their order.

    Parameters
    ----------
    stack
        Source ``(view, row, column)``; it must be possible to pickle it where ``run`` is given.
    views
        Indices of the views.
    despike
        Look for hot pixels.
    dark
        Value without a beam, or one for each pixel.
    kept
        For each view, its part that is stored; other pixels are not counted as those without a count.
    run
        Where they are read; several threads of this process when None.
    report
        Called with the share of the views that has been read.
    """
    task, found = _Task(stack, despike, dark), list[ViewStatistics]()
    of_each: Sequence[KeptPart | None] = kept or [None] * len(views)
    parts = list(zip(views, of_each, strict=True))
    results: Iterator[ViewStatistics]
    if run is None:
        results = map_in_threads(_measure, task, parts, threads())
    else:
        results = run(_measure, task, parts)
    for one in results:
        found.append(one)
        if report is not None:
            report(len(found) / len(views))
    return found


def _measure(task: _Task, one: tuple[int, KeptPart | None]) -> ViewStatistics:
    stack, (view, kept) = task.stack, one

    def read(rows: slice, columns: slice) -> NDArray[np.float32]:
        box = Box((view, rows.start, columns.start), (view + 1, rows.stop, columns.stop))
        image: NDArray[np.float32] = stack.read(box)[0]
        return image

    used = None if kept is None else kept.contains
    return measure_view(read, stack.shape[1:], despike=task.despike, dark=task.dark, used=used)


def mean_frame(frames: VolumeSource) -> NDArray[np.float32]:
    """Mean image of some frames, such as dark fields, ``(row, column)``."""
    count, height, width = frames.shape
    mean = np.empty((height, width), dtype=np.float32)
    band = max(1, _BAND_BYTES // (4 * count * width))
    for row in range(0, height, band):
        stop = min(row + band, height)
        block = frames.read(Box((0, row, 0), (count, stop, width)))
        mean[row:stop] = block.mean(axis=0, dtype=np.float64)
    return mean
