"""One tile, state in and state out: what a worker does with it, whoever schedules it.

The unit of computation is a *block*: ``rows_per_call`` rows over a read box's columns, starting at a
multiple of ``rows_per_call``. A block that is cut off by the volume's end is filled up with empty rows.
So each kernel sees the same shapes however rows are dealt out to tiles, and rounds the same way.

Between iterations a tile is its *state*: estimate times blending window (:mod:`.blending`). An
iteration starts from the blend of the states of the tiles around. They come from this solver's memory,
from other workers as pieces, or from a generation in the store (:mod:`.state_store`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddgm_dist.core.box import Box
from ddgm_dist.core.view_sums import ViewSums
from ddgm_dist.errors import DdgmError
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.prior.denoisers import shared_denoiser
from ddgm_dist.records.checkpoint import Generation
from ddgm_dist.tile.blending import Piece, blend, blend_window, cut_piece
from ddgm_dist.tile.events import Event, Receipt, StepEvent, Timer
from ddgm_dist.tile.fit import fit_of_tile
from ddgm_dist.tile.grid import TileGrid
from ddgm_dist.tile.host import give_back_memory
from ddgm_dist.tile.iterate import Iteration
from ddgm_dist.tile.job import Job
from ddgm_dist.tile.measured import MeasuredBlocks, Sides, TileData
from ddgm_dist.tile.start import Start, start_restorer
from ddgm_dist.tile.state_store import StateStore
from ddgm_dist.tile.writer import TileWriter
from ddgm_dist.tilts.series import reopen_tilt_series

__all__ = ["Paused", "StaleStepError", "Stepped", "TileSolver"]


class StaleStepError(DdgmError):
    """The step that was asked for does not follow the state that this solver holds."""


@dataclass(frozen=True)
class Paused:
    """A tile was put aside on request; its checkpoint is committed.

    Attributes
    ----------
    tile, iteration
        Name of the tile; iterations done.
    """

    tile: str
    iteration: int


@dataclass(frozen=True)
class Stepped:
    """One iteration of a coupled tile is done.

    Attributes
    ----------
    events
        Events to report.
    digests
        Digests of the checkpoint's chunks; empty when no checkpoint was asked for.
    """

    events: list[Event]
    digests: dict[str, str]


class TileSolver:
    """Solves tiles of one job; holds the denoiser, the operator and states between calls.

    Methods may be called from several threads: reading and writing overlap with computing, and one
    computes at a time.

    Parameters
    ----------
    job
        Job of the run.
    worker
        Name that goes into receipts and events.
    """

    def __init__(self, job: Job, worker: str = "local") -> None:
        self.job, self.worker = job, worker
        problem, device = job.problem, job.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        denoiser = shared_denoiser(
            problem.config.denoiser, device=self.device, precision=problem.config.precision
        ).denoiser
        self.iterate = Iteration(problem, denoiser, self.device)
        loaded = start_restorer(problem.config, self.device)
        self.start = Start(problem, None if loaded is None else loaded.restorer, self.device)
        self.computing = threading.Lock()
        series = reopen_tilt_series(job.tilts, job.tilts_identity, job.tilts_record)
        self.data = MeasuredBlocks(problem, job.plan.length, series, self.device, self.computing)
        self.grid = TileGrid(job.plan, problem.geometry, problem.rows_per_call)
        self.states = StateStore(job, self.grid, worker)
        self.writer = TileWriter(job, worker)
        # Coupled tiles between iterations: iterations done, and the state.
        self._held: dict[str, tuple[int, Tensor]] = {}

    def written(self, tile: Tile) -> Receipt | None:
        """The receipt of a tile that is written already; see :meth:`.TileWriter.written`."""
        return self.writer.written(tile)

    # -- uncoupled tiles ------------------------------------------------------------------------

    def run(
        self, tile: Tile, hint: Generation | None = None, paused: Callable[[], bool] = lambda: False
    ) -> Iterator[Event | Paused]:
        """All iterations of an uncoupled tile, from its last checkpoint, and its write.

        Parameters
        ----------
        tile
            A tile that is a group of its own.
        hint
            A committed generation that covers it, from a run that was cut otherwise.
        paused
            Asked between iterations; when true the tile is checkpointed and put aside.
        """
        began, timer, last = time.time(), Timer(), self.job.plan.iterations
        data = self.data.load(tile, timer)
        # Ahead of its turn, though a checkpoint may make it needless.
        sides = self.data.sides(tile, self.start.neighbours, timer)
        with self.computing:
            timer.lap("wait")
            n, pieces, faults = self.states.resume(tile, hint)
            yield from faults
            if n < last and paused():  # the tile was read ahead when the pause was asked for
                yield Paused(tile.name, n)
                return
            clock = Timer()
            # A state of an uncoupled tile is its whole estimate.
            state = self._begun(tile, n, pieces, data, sides, clock)
            del pieces, sides
            saved, before = time.monotonic(), clock.seconds
            while n < last:
                state, event = self._step(tile, state, n, data, before)
                before = {}
                timer.add(event.seconds)
                yield event
                n += 1
                due = time.monotonic() - saved >= self.job.checkpoint_every
                if n < last and (due or paused()):
                    yield self.states.commit(tile, state, n)
                    saved = time.monotonic()
                    if paused():
                        yield Paused(tile.name, n)
                        return
            box = self.states.box(tile)
            fit = self._finished(tile, state, box, data, timer)
        yield self._write(tile, state, box, fit, timer, began)
        self.data.drop(tile.name)
        give_back_memory()
        self.states.forget(tile)

    # -- coupled tiles --------------------------------------------------------------------------

    def step(
        self,
        tile: Tile,
        n: int,
        pieces: Mapping[str, Piece],
        *,
        load: Generation | None = None,
        save: bool = False,
        keep: bool = True,
    ) -> Stepped:
        """Iteration n (from 0) of a coupled tile.

        Parameters
        ----------
        tile, n
            Tile and iteration.
        pieces
            Pieces of the tiles around after n iterations, by name; without the tile's own.
        load
            Read the states around (its own too) from this generation, of n iterations, instead.
        save
            Write the new state as a part of generation n + 1.
        keep
            Keep state and data for the next iteration. Otherwise ``job.cache`` bytes of data stay,
            those used last.

        Raises
        ------
        StaleStepError
            The solver does not hold the tile after n iterations.
        CheckpointDamagedError
            The generation cannot be loaded.
        """
        timer = Timer()
        data = self.data.load(tile, timer)
        sides = self.data.sides(tile, self.start.neighbours, timer) if n == 0 else {}
        with self._blended(tile, n, pieces, load, timer, data, sides) as start:
            sides.clear()  # the context holds them, too
            state, event = self._step(tile, start, n, data, timer.seconds)
        events: list[Event] = [event]
        digests: dict[str, str] = {}
        if save:
            saved, digests = self.states.write(tile, state, n + 1)
            events.append(saved)
        if keep:
            # Not before it is saved: if that fails, this step is asked for again.
            self._held[tile.name] = n + 1, state
        else:
            self.data.trim(self.job.cache)
            give_back_memory()
        return Stepped(events, digests)

    def pieces(self, tile: Tile, n: int, receivers: Sequence[Tile]) -> list[Piece | None]:
        """Cut the pieces that receivers need of a tile whose iteration n was done here.

        Raises
        ------
        StaleStepError
            Another step of the tile, one that was given up, has ended in the meantime.
        """
        box, state = self._own(tile, n + 1)
        return [cut_piece(box, state, other) for other in receivers]

    def finish(
        self, tile: Tile, pieces: Mapping[str, Piece], load: Generation | None = None
    ) -> Receipt:
        """Blend a coupled tile for the last time and write it.

        Parameters and errors as of :meth:`step`, n being the number of iterations.
        """
        began, timer = time.time(), Timer()
        data = self.data.load(tile, timer)
        last = self.job.plan.iterations
        with self._blended(tile, last, pieces, load, timer, data) as estimate:
            fit = self._finished(tile, estimate, tile.read_box, data, timer)
        del data
        if load is not None:
            self.data.trim(self.job.cache)
        # Written while another tile computes.
        return self._write(tile, estimate, tile.read_box, fit, timer, began)

    def drop(self, tiles: Sequence[str]) -> None:
        """Forget the states of coupled tiles."""
        for name in tiles:
            self._held.pop(name, None)
            self.data.drop(name)
        give_back_memory()

    def _own(self, tile: Tile, n: int) -> tuple[Box, Tensor]:
        """Box of a tile's state, and the state that is held after n iterations."""
        held = self._held.get(tile.name)
        if held is None or held[0] != n:
            raise StaleStepError(f"{tile.name} is not held after {n} iterations")
        return self.states.box(tile), held[1]

    @contextlib.contextmanager
    def _blended(
        self,
        tile: Tile,
        n: int,
        pieces: Mapping[str, Piece],
        load: Generation | None,
        timer: Timer,
        data: TileData,
        sides: Mapping[int, Sides] | None = None,
    ) -> Iterator[Tensor]:
        """The estimate over the read box after n iterations, in this tile's turn to compute."""
        if load is not None:
            pieces = self.states.read(tile, load)
        timer.lap("read")
        with self.computing:
            timer.lap("wait")
            if load is None and n > 0:
                pieces = {**pieces, tile.name: Piece(*self._own(tile, n))}
            start = self._begun(tile, n, pieces, data, sides or {}, timer)
            timer.lap("exchange")
            yield start

    # -- one tile -------------------------------------------------------------------------------

    def _begun(
        self,
        tile: Tile,
        n: int,
        pieces: Mapping[str, Piece],
        data: TileData,
        sides: Mapping[int, Sides],
        timer: Timer,
    ) -> Tensor:
        """The estimate that iteration n begins from: the first one, or the blend of the pieces."""
        if n > 0:
            return blend(tile.read_box, pieces, self.device)
        start = self.start(tile, data, sides)
        if self.start.restorer is not None:
            timer.lap("restore")
        return start

    def _step(
        self,
        tile: Tile,
        start: Tensor,
        n: int,
        data: TileData,
        before: Mapping[str, float] | None = None,
    ) -> tuple[Tensor, StepEvent]:
        """Iteration n from the blended estimate over the read box to the tile's new state.

        ``before`` are the seconds that the step took until now, by phase.
        """
        began = time.time()
        estimate, stats = self.iterate(tile, start, n, data)
        event = StepEvent(
            tile.name,
            n,
            self.job.problem.schedule.sigma[n],
            stats.residual,
            stats.measured,
            tile.write_box.size,
            {**(before or {}), **stats.seconds},
            self.worker,
            began,
        )
        first, weight = blend_window(tile, self.grid.field, self.job.plan.margin)
        offset = first - tile.read_box.start[2]
        part = estimate[..., offset : offset + len(weight)]
        return part * weight.to(part), event

    def _finished(
        self, tile: Tile, estimate: Tensor, box: Box, data: TileData, timer: Timer
    ) -> ViewSums:
        """Give the start its share in the last estimate, in place; returns the fit of the result.

        What that takes is read in the tile's turn: another one's would leave this state unsaved.
        """
        if self.start.restorer is not None and self.job.problem.config.start_share:
            sides = self.data.sides(tile, self.start.neighbours, timer, in_turn=True)
            self.start.share(estimate, box, tile, data, sides)
            timer.lap("restore")
        fit = fit_of_tile(tile, estimate, box, data, self.job.problem.rows_per_call)
        timer.lap("other")
        return fit

    def _write(
        self, tile: Tile, values: Tensor, box: Box, fit: ViewSums, timer: Timer, began: float
    ) -> Receipt:
        """Write the voxels that a tile owns, of values over a box; see :meth:`.TileWriter.write`."""
        own = values[tile.write_box.slices(box.start)]
        restored = self.job.problem.intensity.restore(own).cpu().numpy()
        timer.lap("other")
        return self.writer.write(tile, restored, timer, began, fit)
