"""Reading all pixels of a series: once when it is written, or where its writer left no record.

The series is read in parts, whole rows of some views each. What the parts say is put together in their
order. So the result depends neither on who reads them, nor on how many do.
"""

from __future__ import annotations

import contextlib
import copyreg
import functools
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.parallel import Runner, map_in_threads
from ddgm_dist.errors import DdgmError, StorageError
from ddgm_dist.pixels.observations import Observations
from ddgm_dist.pixels.scan import Scan
from ddgm_dist.tilts.bad_pixels import BadPixels
from ddgm_dist.tilts.digests import PIECE, empty_pieces, fingerprint_of, threads
from ddgm_dist.tilts.metadata import TiltSeriesMeta
from ddgm_dist.tilts.reader import TiltSeries
from ddgm_dist.tilts.sampled_rows import probe
from ddgm_dist.tilts.strips import Pixels, Strip, StripSlices, Task, read_strip, strips_of

__all__ = ["Merged", "Report", "Survey", "survey", "verify"]

_log = logging.getLogger("ddgm_dist")

# Called with the share of the pixels that has been read.
Report = Callable[[float], None]

_LOGGED_SECONDS = 10.0
# Blocks of this part of the reader's largest, so that several threads hold no more.
_SMALLER = 4


@dataclass(frozen=True)
class Survey:
    """Result of reading all pixels of a series.

    Attributes
    ----------
    fingerprint
        See :func:`ddgm_dist.tilts.digests.fingerprint_of`.
    bad
        NaN and infinite pixels.
    observations
        Pixels that may be no measurement.
    pieces
        Digests, see :func:`ddgm_dist.tilts.digests.empty_pieces`.
    """

    fingerprint: str
    bad: BadPixels
    observations: Observations
    pieces: NDArray[np.uint8]


@dataclass(frozen=True)
class _Failed:
    """A worker could not read some strips, and why."""

    task: Task
    why: str


def survey(
    series: TiltSeries,
    pieces: NDArray[np.uint8] | None = None,
    *,
    run: Runner | None = None,
    report: Report | None = None,
) -> Survey:
    """Read the whole series, in parallel.

    Parameters
    ----------
    series
        Open tilt series.
    pieces
        Digests of its pieces, where they are known already.
    run
        Where it is read: other processes, which open the series by its place. Several threads of this
        one when None.
    report
        Called with the share that has been read; logged now and then when None.

    Raises
    ------
    StorageError
        Chunks are damaged, unreadable or missing.
    """
    merged = Merged(series, pieces)
    every = Task((), digests=pieces is None, scan=True)
    tasks = (
        replace(every, strips=strips, threshold=merged.threshold) for strips in _strips(series)
    )
    for strip in _read_all(series, tasks, run, report):
        merged.add(strip)
    return merged.survey(series.meta)


class Merged:
    """Survey of a series, put together of those of its strips, in their order.

    Parameters
    ----------
    series
        Its pixels; some are read at once.
    pieces
        Digests of its pieces, where they are known already.
    """

    def __init__(self, series: Pixels, pieces: NDArray[np.uint8] | None = None) -> None:
        self._shape, self._probes = series.shape, probe(series)
        self._scan = Scan(series.shape, self._probes.value())
        self._pieces = empty_pieces(series.shape) if pieces is None else pieces
        self._bad = list[BadPixels]()

    @property
    def threshold(self) -> float | None:
        """That of hot pixels; None where too many stand out, and nothing more is said of them."""
        return None if self._scan.crowded else self._scan.threshold

    def add(self, strip: Strip) -> None:
        """Add the survey of the next strip."""
        if strip.pieces is not None:
            _put(self._pieces, strip)
        self._bad.append(strip.bad)
        assert strip.scan is not None, "it was asked for"
        self._scan.merge(strip.scan)

    def survey(self, meta: TiltSeriesMeta) -> Survey:
        """The survey of all strips, which have been added."""
        return Survey(
            fingerprint_of(self._shape, meta, self._pieces),
            BadPixels.merge(self._bad),
            self._scan.observations(self._probes.probes),
            self._pieces,
        )


def verify(series: TiltSeries, *, run: Runner | None = None, report: Report | None = None) -> None:
    """Read the whole series and compare its pixels with its record, if it has one.

    Parameters
    ----------
    series, run, report
        As for `survey`.

    Raises
    ------
    StorageError
        They are not those that were written, or their record is missing; or chunks are damaged,
        unreadable or missing.
    """
    if series.checked is None:
        if series.seal:
            raise StorageError(
                f"{series.path}: the record of its pixels is missing or damaged, so they cannot be "
                "verified; put a good copy of the tilt series in its place, or run without "
                "--verify-input to take them as they are"
            )
        _log.warning(
            "%s was written without digests, so its pixels are taken as they are", series.path
        )
        return
    recorded, found = series.checked.tables.pieces(), empty_pieces(series.shape)
    tasks = (Task(strips, digests=True, scan=False) for strips in _strips(series))
    for strip in _read_all(series, tasks, run, report):
        _put(found, strip)
    other = np.argwhere((recorded != found).any(axis=3).any(axis=2))
    if not len(other):
        return
    _, height, width = series.shape
    row, across = (int(i) for i in other[0])
    raise series.checked.error(
        slice(row * PIECE[0], min((row + 1) * PIECE[0], height)),
        slice(across * PIECE[1], min((across + 1) * PIECE[1], width)),
    )


def _put(pieces: NDArray[np.uint8], strip: Strip) -> None:
    """Put the digests of a strip into the table of the series."""
    assert strip.pieces is not None, "they were asked for"
    row = strip.rows.start // PIECE[0]
    pieces[row : row + len(strip.pieces), :, strip.tilts] = strip.pieces


def _strips(series: TiltSeries) -> Iterator[tuple[StripSlices, ...]]:
    """Whole rows of some views, so many at a time as are worth a call."""
    return strips_of(series.blocks(_SMALLER))


def _read_all(
    series: TiltSeries, tasks: Iterator[Task], run: Runner | None, report: Report | None
) -> Iterator[Strip]:
    """Surveys of all strips, in the order of the tasks."""
    report, total, done = report or _logged(series.path), math.prod(series.shape), 0
    found: Iterator[list[Strip] | _Failed]
    if run is None:
        found = map_in_threads(_read, series, tasks, threads())
    else:
        # What a pickled series is made of, so that a worker that cannot open it can say so.
        parts = copyreg.dispatch_table[TiltSeries](series)
        assert isinstance(parts, tuple), "a function and its arguments"
        found = run(_read_elsewhere, functools.partial(parts[0], *parts[1]), tasks)
    warned = False
    # So that nothing is under way any more when an error is raised.
    with contextlib.closing(found):  # type: ignore[type-var]
        for answer in found:
            if isinstance(answer, _Failed) and not warned:
                _log.warning(
                    "a worker cannot read %s: %s; it is read here", series.path, answer.why
                )
                warned = True
            strips = _read(series, answer.task) if isinstance(answer, _Failed) else answer
            for strip in strips:
                yield strip
                lines = (part.stop - part.start for part in (strip.tilts, strip.rows))
                done += math.prod(lines) * series.shape[2]
            report(done / total)


def _read_elsewhere(reopen: Callable[[], TiltSeries], task: Task) -> list[Strip] | _Failed:
    """Open the series by its place, and read some strips of it.

    Whether the series or the worker is at fault is for the driver to find out.
    """
    try:
        return _read(reopen(), task)
    except DdgmError as error:
        return _Failed(task, str(error))


def _read(series: TiltSeries, task: Task) -> list[Strip]:
    """Read some strips."""
    return [read_strip(series, strip, task) for strip in task.strips]


def _logged(path: str) -> Report:
    """Log how far a series has been read, now and then."""
    said = time.monotonic()

    def log(share: float) -> None:
        nonlocal said
        if (now := time.monotonic()) - said >= _LOGGED_SECONDS:
            said = now
            _log.info("%s: %.0f %% of its pixels read", path, 100 * share)

    return log
