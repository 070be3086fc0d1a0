"""The step: what a worker does with a tile, whoever schedules it.

The unit of computation is a *block*: ``rows_per_call`` rows over a read box's columns, starting at a
multiple of ``rows_per_call``; a block cut off by the volume's end is filled up with empty rows. So
each kernel sees the same shapes however rows are dealt out to tiles, and rounds the same way.

Between iterations a tile is its *state*: estimate times blending window (:mod:`.blending`). An
iteration starts from the blend of the states around, wherever they come from: this solver's memory,
pieces handed over by others, or a generation in the store (:mod:`ddgm_dist.records.checkpoint`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddgm_dist.core.box import Box
from ddgm_dist.errors import DdgmError
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.prior.denoisers import load_denoiser
from ddgm_dist.records.checkpoint import CheckpointDamagedError, Checkpoints, Generation
from ddgm_dist.tile.blending import Piece, blend, blend_window, cut_piece
from ddgm_dist.tile.events import Event, FaultEvent, Receipt, SaveEvent, StepEvent, Timer
from ddgm_dist.tile.grid import TileGrid
from ddgm_dist.tile.history import unit_name
from ddgm_dist.tile.host import give_back_memory
from ddgm_dist.tile.iterate import Iteration
from ddgm_dist.tile.job import Job
from ddgm_dist.tile.measured import MeasuredBlocks
from ddgm_dist.tile.writer import TileWriter
from ddgm_dist.tilts.series import reopen_tilt_series

__all__ = ["Paused", "StaleStepError", "Stepped", "TileSolver"]


class StaleStepError(DdgmError):
    """A step was asked for that does not follow what this solver holds: it was given up."""


@dataclass(frozen=True)
class Paused:
    """A tile was put aside on request; its checkpoint is committed.

    Attributes
    ----------
    tile, iteration
        Which; iterations done.
    """

    tile: str
    iteration: int


@dataclass(frozen=True)
class Stepped:
    """One iteration of a coupled tile is done.

    Attributes
    ----------
    events
        What to report.
    digests
        Of the checkpoint's chunks, when one was asked for; else empty.
    """

    events: list[Event]
    digests: dict[str, str]


@dataclass
class _Held:
    """A coupled tile's state between iterations."""

    iteration: int
    state: Tensor


class TileSolver:
    """Solves tiles of one job; holds the denoiser, the operator and states between calls.

    Methods may be called from several threads: reading and writing overlap with computing, and one
    computes at a time.

    Parameters
    ----------
    job
        What to compute.
    worker
        Name that goes into receipts and events.
    """

    def __init__(self, job: Job, worker: str = "local") -> None:
        self.job, self.worker = job, worker
        problem = self.problem = job.problem
        device = job.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        config = problem.config
        denoiser = load_denoiser(
            config.denoiser, device=self.device, precision=config.precision
        ).denoiser
        self.iterate = Iteration(problem, denoiser, self.device)
        self.computing = threading.Lock()
        self.data = MeasuredBlocks(
            problem,
            job.plan.length,
            reopen_tilt_series(job.tilts, job.tilts_identity),
            self.device,
            self.computing,
        )
        self.writer = TileWriter(job, worker)
        self.record = self.writer.record
        self.grid = TileGrid(job.plan, problem.geometry, problem.rows_per_call)
        self.checkpoints = Checkpoints(job.out, self.grid.layout, job.digest)
        self._held: dict[str, _Held] = {}
        self._cache = job.cache

    # -- uncoupled tiles ------------------------------------------------------------------------

    def run(
        self,
        tile: Tile,
        hint: Generation | None = None,
        paused: Callable[[], bool] = lambda: False,
    ) -> Iterator[Event | Paused]:
        """All iterations of an uncoupled tile, from its last checkpoint, and its write.

        Parameters
        ----------
        tile
            Of a group of its own.
        hint
            A committed generation that covers it, from a run that was cut otherwise.
        paused
            Asked between iterations; when true the tile is checkpointed and put aside.
        """
        began, timer = time.time(), Timer()
        data = self.data.load(tile, timer)
        last = self.job.plan.iterations
        with self.computing:
            timer.lap("wait")
            n, state, faults = self._resume(tile, hint)
            yield from faults
            if n < last and paused():  # it was read ahead when the pause was asked for
                yield Paused(tile.name, n)
                return
            saved = time.monotonic()
            while n < last:
                state, event = self._step(tile, state, n, data)
                timer.add(event.seconds)
                yield event
                n += 1
                due = time.monotonic() - saved >= self.job.checkpoint_every
                if n < last and (due or paused()):
                    yield self._commit(tile, state, n)
                    saved = time.monotonic()
                    if paused():
                        yield Paused(tile.name, n)
                        return
        yield self._write(tile, self._own(tile, state), timer, began)
        self.data.drop(tile.name)
        give_back_memory()
        self.checkpoints.forget(unit_name([tile]))

    def _resume(self, tile: Tile, hint: Generation | None) -> tuple[int, Tensor, list[FaultEvent]]:
        """Iterations done and the state after them: of the newest generation that is sound."""
        known = self.checkpoints.generations(unit_name([tile]))
        if hint is not None and all(hint.iteration != g.iteration for g in known):
            known.append(hint)
        faults = []
        for generation in sorted(known, key=lambda g: -g.iteration):
            try:
                state = self._load(tile, generation)
            except CheckpointDamagedError as error:
                faults.append(
                    FaultEvent(
                        kind="checkpoint-damaged",
                        worker=self.worker,
                        tile=tile.name,
                        action="go back to the checkpoint before",
                        detail=str(error),
                        time=time.time(),
                    )
                )
                continue
            return generation.iteration, state, faults
        return 0, self._zero(tile), faults

    def _commit(self, tile: Tile, state: Tensor, n: int) -> SaveEvent:
        event, digests = self._save(tile, state, n)
        self.checkpoints.commit(unit_name([tile]), Generation(n, digests))
        return event

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
            Which.
        pieces
            Of the tiles around after n iterations, by name; without its own.
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
        if load is not None:
            pieces = self._loaded(tile, load)
        timer.lap("read")
        with self.computing:
            timer.lap("wait")
            if n == 0:
                start = self._zero(tile)
            elif load is None:
                start = self._blend(tile, self._with_own(tile, n, pieces))
            else:
                start = blend(tile.read_box, pieces, self.device)
            timer.lap("exchange")
            state, event = self._step(tile, start, n, data)
            seconds = {**timer.seconds, **event.seconds}
            events: list[Event] = [_with_seconds(event, seconds)]
        digests: dict[str, str] = {}
        if save:
            saved, digests = self._save(tile, state, n + 1)
            events.append(saved)
        if keep:
            # Not before it is saved: if that fails, this step is asked for again.
            self._held[tile.name] = _Held(n + 1, state)
        else:
            self.data.trim(self._cache)
            give_back_memory()
        return Stepped(events, digests)

    def pieces(self, tile: Tile, n: int, receivers: Sequence[Tile]) -> list[Piece | None]:
        """What each receiver needs of a tile whose iteration n was done here.

        Raises
        ------
        StaleStepError
            Another step of the tile, one that was given up, has ended in the meantime.
        """
        held = self._held.get(tile.name)
        if held is None or held.iteration != n + 1:
            raise StaleStepError(f"{tile.name} is not held after {n + 1} iterations")
        state = held.state
        return [cut_piece(self._state_box(tile), state, other) for other in receivers]

    def finish(
        self, tile: Tile, pieces: Mapping[str, Piece], load: Generation | None = None
    ) -> Receipt:
        """Blend a coupled tile for the last time and write it.

        Parameters and errors as of :meth:`step`, n being the number of iterations.
        """
        began, timer, n = time.time(), Timer(), self.job.plan.iterations
        if load is not None:
            pieces = self._loaded(tile, load)
        timer.lap("read")
        with self.computing:
            timer.lap("wait")
            if load is None:
                pieces = self._with_own(tile, n, pieces)
            own = blend(tile.read_box, pieces, self.device)
            timer.lap("exchange")
        return self._write(tile, self._crop(tile, own), timer, began)

    def drop(self, tiles: Sequence[str]) -> None:
        """Forget the states of coupled tiles."""
        for name in tiles:
            self._held.pop(name, None)
            self.data.drop(name)
        give_back_memory()

    def _with_own(self, tile: Tile, n: int, pieces: Mapping[str, Piece]) -> dict[str, Piece]:
        held = self._held.get(tile.name)
        if held is None or held.iteration != n:
            raise StaleStepError(f"{tile.name} is not held after {n} iterations")
        return {**pieces, tile.name: Piece(self._state_box(tile), held.state)}

    def _loaded(self, tile: Tile, generation: Generation) -> dict[str, Piece]:
        """Pieces of the tiles around (and its own) from a generation."""
        pieces = {}
        for sender in self.grid.senders(tile):
            box = self._state_box(sender).intersection(tile.read_box)
            if box is not None:
                start, _ = self.grid.support(sender)
                pieces[sender.name] = Piece(
                    box,
                    self.checkpoints.read(
                        generation,
                        self.grid.slot(sender),
                        box.start[1],
                        box.stop[1],
                        slice(box.start[2] - start, box.stop[2] - start),
                    ),
                )
        return pieces

    # -- one tile -------------------------------------------------------------------------------

    def _step(
        self, tile: Tile, start: Tensor, n: int, data: MeasuredBlocks.Loaded
    ) -> tuple[Tensor, StepEvent]:
        """Iteration n from the blended estimate over the read box to the tile's new state."""
        began = time.time()
        estimate, event = self.iterate(tile, start, n, data, self.worker, began)
        first, weight = blend_window(tile, self.grid.field, self.job.plan.margin)
        offset = first - tile.read_box.start[2]
        part = estimate[..., offset : offset + len(weight)]
        return part * weight.to(part), event

    def _blend(self, tile: Tile, pieces: Mapping[str, Piece]) -> Tensor:
        return blend(tile.read_box, pieces, self.device)

    def _zero(self, tile: Tile) -> Tensor:
        return torch.zeros(tile.read_box.shape, device=self.device)

    def _load(self, tile: Tile, generation: Generation) -> Tensor:
        return blend(tile.read_box, self._loaded(tile, generation), self.device)

    def _state_box(self, tile: Tile) -> Box:
        (z0, y0, _), (z1, y1, _) = tile.write_box.start, tile.write_box.stop
        start, stop = self.grid.support(tile)
        return Box((z0, y0, start), (z1, y1, stop))

    def _save(self, tile: Tile, state: Tensor, n: int) -> tuple[SaveEvent, dict[str, str]]:
        began, clock = time.time(), time.perf_counter()
        self.record.check(self.job.digest)
        values = state.cpu().numpy()
        digests = self.checkpoints.write(n, self.grid.slot(tile), tile.write_box.start[1], values)
        seconds = time.perf_counter() - clock
        return SaveEvent(tile.name, n, values.nbytes, seconds, self.worker, began), digests

    def _own(self, tile: Tile, state: Tensor) -> Tensor:
        """The voxels an uncoupled tile owns, of its state."""
        offset = tile.write_box.start[2] - self.grid.support(tile)[0]
        return state[..., offset : offset + tile.write_box.shape[2]]

    def _crop(self, tile: Tile, estimate: Tensor) -> Tensor:
        return estimate[tile.write_box.slices(tile.read_box.start)]

    def written(self, tile: Tile) -> Receipt | None:
        """The receipt of a tile that is written already, whoever did it; None if it is not."""
        return self.writer.written(tile)

    def _write(self, tile: Tile, own: Tensor, timer: Timer, began: float) -> Receipt:
        """Write the voxels a tile owns, and then the receipt; see :meth:`.TileWriter.write`."""
        values = self.problem.intensity.restore(own).cpu().numpy()
        timer.lap("other")
        return self.writer.write(tile, values, timer, began)


def _with_seconds(event: StepEvent, seconds: dict[str, float]) -> StepEvent:
    return StepEvent(**{**event.__dict__, "seconds": seconds})
