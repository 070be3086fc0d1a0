"""Processes that read and write a source."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator

from ddgm_dist.core.parallel import Runner, one_by_one
from ddgm_dist.core.processes import Processes
from ddgm_dist.readers.base import VolumeSource
from ddgm_dist.tile.host import ALLOCATION

__all__ = ["runner"]

# Starting a process takes a second or two, in which one core reads about so many bytes.
_BYTES_PER_PROCESS = 256 * 2**20
_MOST = 8


@contextlib.contextmanager
def runner(stack: VolumeSource, workers: int | None) -> Iterator[tuple[Runner | None, int]]:
    """Processes for a source, and their number; None and 1 for threads of this process.

    Parameters
    ----------
    stack
        Source ``(view, row, column)``.
    workers
        Number of processes, each of which uses one core; one is this process. None for as many as
        there are cores, at most eight, and as the source is worth.
    """
    if workers == 1:
        yield one_by_one, 1
        return
    if workers is None:
        size = math.prod(stack.shape) * stack.dtype.itemsize
        workers = min(_MOST, len(os.sched_getaffinity(0)), size // _BYTES_PER_PROCESS)
    if workers <= 1:
        yield None, 1
        return
    with Processes(workers, ALLOCATION) as run:
        yield run, workers
