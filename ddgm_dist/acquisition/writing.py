"""Writing a tilt-series store in parallel, block by block; a writer that was interrupted is resumed.

Where reading rows of all views is cheap, blocks of rows are read and written at once. Where a view is
decoded or rotated whole, each is read once and kept beside the store, in chunks of one view; then these
are transposed. Each chunk is written by one worker. The survey of the pixels is made on the way, so they
are not read back.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from ddgm_dist.acquisition.judging import Judge, judge_written
from ddgm_dist.acquisition.store.blocks import Block, write_block
from ddgm_dist.acquisition.store.free_space import refuse_full
from ddgm_dist.acquisition.store.progress import Report, Share
from ddgm_dist.acquisition.store.receipts import Receipts, Written, chunks_there
from ddgm_dist.acquisition.store.stored_views import Keeping, StoredViews, create_views, keep_view
from ddgm_dist.acquisition.store.target import Target, Views
from ddgm_dist.core.parallel import Runner, one_by_one
from ddgm_dist.core.processes import Processes
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.files import is_zarr
from ddgm_dist.paths.place import Place
from ddgm_dist.tile.host import ALLOCATION, give_back_memory
from ddgm_dist.tilts.digests import CHUNK_COLUMNS, CHUNK_ROWS, cut
from ddgm_dist.tilts.metadata import ARRAY, TiltSeriesMeta, dump_meta, parse_meta
from ddgm_dist.tilts.strips import StripSlices, blocks_of, strips_of
from ddgm_dist.tilts.survey import Merged, Survey
from ddgm_dist.tilts.writer import TiltSeriesWriter, create_tilt_series

__all__ = ["write_series"]

_log = logging.getLogger("ddgm_dist")

_BLOCK_BYTES = 32 * 2**20
# Of the recipe: a release that divides the work in another way counts up.
_VERSION = 1

Common = TypeVar("Common")
Item = TypeVar("Item")
Result = TypeVar("Result")


def write_series(
    place: Place,
    views: Views,
    meta: TiltSeriesMeta,
    *,
    dtype: DTypeLike,
    overwrite: bool,
    recipe: str | None,
    workers: int = 1,
    run: Runner | None = None,
    report: Report | None = None,
    judge: Judge | None = None,
) -> None:
    """Write a tilt-series store: the same bits whoever writes them, however often interrupted.

    Parameters
    ----------
    place
        Place of the store.
    views
        Views, NaN where nothing was measured.
    meta
        Metadata of the series.
    dtype
        Dtype in which pixels are stored. It must hold them: nothing is rounded to whole numbers.
    overwrite
        Replace a store that is there, when the new one is whole.
    recipe
        Text that says where the pixels come from and how they are computed. An unfinished store of the
        same text is resumed, one of another text is deleted. None if that is unknown: then nothing
        is resumed, and an interrupted writer leaves nothing.
    workers
        Number of processes, each of which uses one core; 1 for this process.
    run
        Where blocks are written instead; each call uses one core. The place must be reachable there.
    report
        Called with the share that is finished, which never falls.
    judge
        Called when all pixels are written, before the store is whole. What it raises leaves the store
        unfinished; the next writer of the same recipe has only to finish it.

    Raises
    ------
    InputError
        As of `create_tilt_series`. A source cannot be read, or a pixel cannot be stored; what was
        written is deleted.
    StorageError
        The store cannot be written, or a worker was ended from outside. On a disk what is finished
        stays, and the same call resumes it.
    """
    series = _Series(place, views, meta, np.dtype(dtype).newbyteorder("="), recipe)
    writer, receipts = series.begin(overwrite=overwrite)
    judging = False
    try:
        seen = None
        if not writer.sealed:
            share = Share(report)
            with _runner(run, workers, series) as runner:
                seen = series.fill(writer, receipts, runner, share)
        give_back_memory()
        if judge is not None:
            judging = True
            judge_written(judge, writer, meta, seen, kept=receipts.kept)
            judging = False
        writer.close(seen, tidy=receipts.tidy)
        give_back_memory()
    except BaseException as error:
        _end(writer, receipts, error, whole=judging)
        raise
    receipts.end(place)
    if report is not None:
        report(1.0)


class _Series:
    """The series that is to be written, divided into blocks."""

    def __init__(
        self,
        place: Place,
        views: Views,
        meta: TiltSeriesMeta,
        dtype: np.dtype[Any],
        recipe: str | None,
    ) -> None:
        self.place, self.views, self.meta, self.dtype = place, views, meta, dtype
        tilts, height, width = (int(extent) for extent in views.shape)
        self.shape = (tilts, height, width)
        # As `create_tilt_series` makes them.
        self._chunk = (tilts, CHUNK_ROWS, CHUNK_COLUMNS)
        together = strips_of(blocks_of(self.shape, self._chunk, _BLOCK_BYTES))
        self.strips: list[StripSlices] = [strip for strips in together for strip in strips]
        # One block has all of each view, so nothing is read twice.
        self.by_view = views.by_view and len(self.strips) > 1
        rows = self.strips[0][0][1]
        self._rows = rows.stop - rows.start
        self._known = recipe is not None
        details = [_VERSION, self.shape, str(dtype), self.by_view, self._rows]
        self._recipe = json.dumps([recipe, *details])

    def begin(self, *, overwrite: bool) -> tuple[TiltSeriesWriter, Receipts]:
        """Make the store, or open the one that an interrupted writer left."""
        local = isinstance(self.place, Path)
        kept = local and self._known
        resumed = False

        def resume(left: Place) -> bool:
            nonlocal resumed
            found = Receipts(left, self._recipe, kept).are_of(self._recipe)
            if found is False:
                _log.warning(
                    "%s: what an interrupted writer left is of another source or of other options, "
                    "and is deleted",
                    self.place,
                )
            resumed = bool(found)
            return resumed

        writer = create_tilt_series(
            self.place,
            self.shape,
            self.meta,
            dtype=self.dtype,
            overwrite=overwrite,
            resume=resume if kept else None,
        )
        if not local:
            _log.info(
                "%s: in an object store a writer that is interrupted cannot be resumed", self.place
            )
        receipts = Receipts(writer.work, self._recipe, kept)
        try:
            if isinstance(self.place, Path) and not resumed:
                size = math.prod(self.shape) * self.dtype.itemsize
                refuse_full(self.place, size, twice=self.by_view)
            if kept and not resumed:
                receipts.begin()
        except BaseException:
            writer.discard()
            raise
        return writer, receipts

    def fill(
        self, writer: TiltSeriesWriter, receipts: Receipts, run: Runner, share: Share
    ) -> Survey:
        """Write all blocks that are not finished, and survey the whole series."""
        done = self._done(writer.work, receipts)
        share.total = math.prod(self.shape) * (2 if self.by_view else 1)
        source: Views = self.views
        if len(done) == len(self.strips):
            # What was kept of the views may be gone.
            source = StoredViews(writer.work / ARRAY, self.shape, self.dtype, CHUNK_ROWS)
            share.add(math.prod(self.shape) if self.by_view else 0)
        elif self.by_view:
            source = self._keep_views(writer, receipts, run, share)
        target = self._target(source, writer.work, receipts)
        merged = Merged(target)

        def todo() -> Iterator[Block]:
            for number, strip in enumerate(self.strips):
                if number not in done:
                    yield Block(number, strip, merged.threshold)

        with closing(_results(run, write_block, target, todo())) as results:
            for number, strip in enumerate(self.strips):
                rows = strip[0][1]
                written = self._written(number, rows, receipts) if number in done else next(results)
                writer.check()
                assert written.strip.pieces is not None, "they were asked for"
                writer.adopt(rows.start, written.strip.pieces, written.chunks)
                merged.add(written.strip)
                share.add((rows.stop - rows.start) * self.shape[0] * self.shape[2])
        # As it is read again: whole numbers have become floats.
        return merged.survey(parse_meta(dump_meta(self.meta), str(self.place)))

    def _target(self, source: Views, work: Place, receipts: Receipts) -> Target:
        return Target(source, work, self.dtype, str(self.place), receipts)

    def _done(self, work: Place, receipts: Receipts) -> frozenset[int]:
        """Numbers of the blocks that an interrupted writer finished."""
        if not (numbers := receipts.numbers()):
            return frozenset()
        _, height, width = self.shape
        grid = (1, cut(height, CHUNK_ROWS), cut(width, CHUNK_COLUMNS))
        there = chunks_there(work / ARRAY, grid)
        found = set[int]()
        for number, strip in enumerate(self.strips):
            rows = strip[0][1]
            whole = there[0, rows.start // CHUNK_ROWS : cut(rows.stop, CHUNK_ROWS)].all()
            if number in numbers and whole and receipts.read(number, rows, self.shape) is not None:
                found.add(number)
        _log.info(
            "%s: resumed; %d of %d blocks are there", self.place, len(found), len(self.strips)
        )
        return frozenset(found)

    def _written(self, number: int, rows: slice, receipts: Receipts) -> Written:
        found = receipts.read(number, rows, self.shape)
        if found is None:
            raise StorageError(
                f"{self.place}: the record of finished rows is gone; another program deletes files "
                "there; run the same command again"
            )
        return found

    def _keep_views(
        self, writer: TiltSeriesWriter, receipts: Receipts, run: Runner, share: Share
    ) -> StoredViews:
        """Read each view that is not kept yet, and keep it."""
        tilts, height, width = self.shape
        folder = receipts.views_place
        stored = StoredViews(folder, self.shape, self.dtype, self._rows)
        done, grid = frozenset[int](), (tilts, cut(height, self._rows), 1)
        if is_zarr(folder):
            there = chunks_there(folder, grid)
            done = frozenset(k for k in receipts.views() if k < tilts and there[k].all())
        else:
            create_views(stored)
        share.add(len(done) * height * width)
        target = self._target(self.views, writer.work, receipts)
        todo = (tilt for tilt in range(tilts) if tilt not in done)
        with closing(_results(run, keep_view, Keeping(target, stored), todo)) as results:
            for _ in results:
                writer.check()
                share.add(height * width)
        return stored


def _runner(run: Runner | None, workers: int, series: _Series) -> AbstractContextManager[Runner]:
    if run is not None:
        return nullcontext(run)
    most = max(len(series.strips), series.shape[0] if series.by_view else 1)
    count = min(workers, most)
    return Processes(count, ALLOCATION) if count > 1 else nullcontext(one_by_one)


def _results(
    run: Runner, function: Callable[[Common, Item], Result], common: Common, items: Iterable[Item]
) -> Generator[Result, None, None]:
    """Results of a runner; closed, it ends what is under way."""
    yield from run(function, common, items)


def _end(
    writer: TiltSeriesWriter, receipts: Receipts, error: BaseException, *, whole: bool
) -> None:
    """End an unfinished store: what is finished stays, unless it is of a source that cannot be used.

    Where the ``whole`` is written, an error is no fault of the source.
    """
    whole = whole or writer.sealed
    refused = isinstance(error, InputError)
    begun = bool(receipts.numbers() or receipts.views())
    if receipts.kept and (whole or (begun and not refused)):
        writer.keep()
        if not refused:
            _log.warning("%s is unfinished; the same command resumes it", writer.path)
        return
    with contextlib.suppress(StorageError, OSError):
        writer.check()
        receipts.end(writer.work)
    writer.discard()
