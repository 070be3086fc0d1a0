"""Reading all pixels of a series: once when it is written, or where its writer left no record.

The series is read in parts, whole rows of some views each. What the parts say is put together in their
order. So the result depends neither on who reads them, nor on how many do.
"""

from __future__ import annotations

import contextlib
import copyreg
import functools
import itertools
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
from ddgm_dist.tilts.bad_pixels import BadPixels, find_bad
from ddgm_dist.tilts.digests import PIECE, empty_pieces, fingerprint_of, hash_pieces, threads
from ddgm_dist.tilts.reader import Slices, TiltSeries
from ddgm_dist.tilts.sampled_rows import probe

__all__ = ["Report", "Survey", "survey", "verify"]

_log = logging.getLogger("ddgm_dist")

# Called with the share of the pixels that has been read.
Report = Callable[[float], None]

_LOGGED_SECONDS = 10.0
# Blocks of this part of the reader's largest, so that several threads hold no more; and pixels of a
# call: far more work than opening the series.
_SMALLER, _PART_PIXELS = 4, 2**24


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
class _Task:
    """Strips to be read together. A strip is blocks side by side, with whole rows of some views.

    ``threshold`` is that of hot pixels; None where none is searched for.
    """

    strips: tuple[tuple[Slices, ...], ...]
    digests: bool
    scan: bool
    threshold: float | None = None


@dataclass(frozen=True)
class _Strip:
    """Survey of one strip."""

    tilts: slice
    rows: slice
    pieces: NDArray[np.uint8] | None
    bad: BadPixels
    scan: Scan | None


@dataclass(frozen=True)
class _Failed:
    """A worker could not read some strips, and why."""

    task: _Task
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
    probes = probe(series)
    scan = Scan(series.shape, probes.value())
    found = empty_pieces(series.shape) if pieces is None else pieces
    bad = list[BadPixels]()
    every = _Task((), digests=pieces is None, scan=True)

    def tasks() -> Iterator[_Task]:
        for strips in _strips(series):
            # Where too many stand out, nothing more is said of hot pixels.
            threshold = None if scan.crowded else scan.threshold
            yield replace(every, strips=strips, threshold=threshold)

    for strip in _read_all(series, tasks(), run, report):
        if strip.pieces is not None:
            _put(found, strip)
        bad.append(strip.bad)
        assert strip.scan is not None, "it was asked for"
        scan.merge(strip.scan)
    return Survey(
        fingerprint_of(series.shape, series.meta, found),
        BadPixels.merge(bad),
        scan.observations(probes.probes),
        found,
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
    tasks = (_Task(strips, digests=True, scan=False) for strips in _strips(series))
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


def _put(pieces: NDArray[np.uint8], strip: _Strip) -> None:
    """Put the digests of a strip into the table of the series."""
    assert strip.pieces is not None, "they were asked for"
    row = strip.rows.start // PIECE[0]
    pieces[row : row + len(strip.pieces), :, strip.tilts] = strip.pieces


def _strips(series: TiltSeries) -> Iterator[tuple[tuple[Slices, ...], ...]]:
    """Whole rows of some views, so many at a time as are worth a call."""
    together, pixels = list[tuple[Slices, ...]](), 0
    for _, row in itertools.groupby(series.blocks(_SMALLER), lambda block: block[1].start):
        by_tilt = dict[int, list[Slices]]()
        for block in row:
            by_tilt.setdefault(block[0].start, []).append(block)
        for strip in by_tilt.values():
            together.append(tuple(strip))
            pixels += sum(map(_size, strip))
            if pixels >= _PART_PIXELS:
                yield tuple(together)
                together, pixels = [], 0
    if together:
        yield tuple(together)


def _size(block: Slices) -> int:
    return math.prod(part.stop - part.start for part in block)


def _read_all(
    series: TiltSeries, tasks: Iterator[_Task], run: Runner | None, report: Report | None
) -> Iterator[_Strip]:
    """Surveys of all strips, in the order of the tasks."""
    report, total, done = report or _logged(series.path), math.prod(series.shape), 0
    found: Iterator[list[_Strip] | _Failed]
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


def _read_elsewhere(reopen: Callable[[], TiltSeries], task: _Task) -> list[_Strip] | _Failed:
    """Open the series by its place, and read some strips of it.

    Whether the series or the worker is at fault is for the driver to find out.
    """
    try:
        return _read(reopen(), task)
    except DdgmError as error:
        return _Failed(task, str(error))


def _read(series: TiltSeries, task: _Task) -> list[_Strip]:
    """Read some strips."""
    return [_read_strip(series, strip, task) for strip in task.strips]


def _read_strip(series: TiltSeries, strip: tuple[Slices, ...], task: _Task) -> _Strip:
    (tilts, rows, _), bad = strip[0], list[BadPixels]()
    here = (tilts.stop - tilts.start, rows.stop - rows.start, series.shape[2])
    pieces = empty_pieces(here) if task.digests else None
    scan = None
    if task.scan:
        scan = Scan(series.shape, task.threshold, series.read, tilts=tilts, rows=rows)
    for block in strip:
        values, column = series.read_unchecked(block), block[2].start
        if pieces is not None:
            hash_pieces((0, 0, column), values, pieces)
        if scan is not None:
            origin = (tilts.start, rows.start, column)
            if series.may_be_bad:
                bad.append(find_bad(origin, values))
            scan.add(origin, values)
    return _Strip(tilts, rows, pieces, BadPixels.merge(bad), scan)


def _logged(path: str) -> Report:
    """Log how far a series has been read, now and then."""
    said = time.monotonic()

    def log(share: float) -> None:
        nonlocal said
        if (now := time.monotonic()) - said >= _LOGGED_SECONDS:
            said = now
            _log.info("%s: %.0f %% of its pixels read", path, 100 * share)

    return log
