"""Reading all pixels of a series: once when it is written, or where its writer left no record."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.pixels.observations import Observations
from ddgm_dist.pixels.scan import Scan
from ddgm_dist.tilts.bad_pixels import BadPixels, Origin, find_bad
from ddgm_dist.tilts.digests import PIECE, empty_pieces, fingerprint_of, hash_pieces, threads
from ddgm_dist.tilts.reader import Slices, TiltSeries
from ddgm_dist.tilts.sampled_rows import probe

__all__ = ["Survey", "survey", "verify"]

_log = logging.getLogger("ddgm_dist")

_PROGRESS_SECONDS = 10.0

Work = Callable[[Origin, NDArray[np.float32]], None]


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
    """

    fingerprint: str
    bad: BadPixels
    observations: Observations


def survey(series: TiltSeries, pieces: NDArray[np.uint8] | None = None) -> Survey:
    """Read the whole series, in several threads, and log how far it is.

    Parameters
    ----------
    series
        Open tilt series.
    pieces
        Digests of its pieces, where they are known already.

    Raises
    ------
    StorageError
        Chunks are damaged, unreadable or missing.
    """
    probes = probe(series)
    scan = Scan(series.shape, probes.value(), series.read)
    found = empty_pieces(series.shape) if pieces is None else pieces
    bad = list[BadPixels]()

    def work(origin: Origin, block: NDArray[np.float32]) -> None:
        if pieces is None:
            hash_pieces(origin, block, found)
        if series.may_be_bad:
            bad.append(find_bad(origin, block))
        scan.add(origin, block)

    _read_all(series, work)
    return Survey(
        fingerprint_of(series.shape, series.meta, found),
        BadPixels.merge(bad),
        scan.observations(probes.probes),
    )


def verify(series: TiltSeries) -> None:
    """Read the whole series and compare its pixels with its record, if it has one.

    Raises
    ------
    StorageError
        They are not those that were written; or chunks are damaged, unreadable or missing.
    """
    if series.checked is None:
        return
    recorded, found = series.checked.tables.pieces(), empty_pieces(series.shape)
    _read_all(series, lambda origin, block: hash_pieces(origin, block, found))
    other = np.argwhere((recorded != found).any(axis=3).any(axis=2))
    if not len(other):
        return
    _, height, width = series.shape
    row, across = (int(i) for i in other[0])
    raise series.checked.error(
        slice(row * PIECE[0], min((row + 1) * PIECE[0], height)),
        slice(across * PIECE[1], min((across + 1) * PIECE[1], width)),
    )


def _read_all(series: TiltSeries, work: Work) -> None:
    """Give all pixels to ``work``, block by block; columns of a row come in order."""
    strips = dict[tuple[int, int], list[Slices]]()
    for block in series.blocks(threads()):
        strips.setdefault((block[0].start, block[1].start), []).append(block)
    lock, began, total = threading.Lock(), time.monotonic(), float(np.prod(series.shape))
    done, said = 0, began

    def read(strip: list[Slices]) -> None:
        nonlocal done, said
        for block in strip:
            values = series.read_unchecked(block)
            work((block[0].start, block[1].start, block[2].start), values)
            with lock:
                done += values.size
                if (now := time.monotonic()) - said >= _PROGRESS_SECONDS:
                    said = now
                    _log.info("%s: %.0f %% of its pixels read", series.path, 100 * done / total)

    with ThreadPoolExecutor(threads()) as pool:
        try:
            for _ in pool.map(read, strips.values()):
                pass  # so that errors are raised
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
