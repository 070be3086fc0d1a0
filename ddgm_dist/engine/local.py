"""The reference engine: a loop over tiles in this process."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Sequence

from ddgm_dist.engine.processors import mixture, processor
from ddgm_dist.engine.tally import Tally
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.records.checkpoint import CheckpointDamagedError, Generation
from ddgm_dist.tile.blending import Piece
from ddgm_dist.tile.events import FaultEvent, PoolEvent, Report
from ddgm_dist.tile.history import History, unit_name
from ddgm_dist.tile.host import available_memory
from ddgm_dist.tile.job import Job
from ddgm_dist.tile.solver import Paused, TileSolver

__all__ = ["LocalEngine"]


class LocalEngine:
    """Computes tile after tile in this process, with all of torch's threads."""

    name = "local"
    workers = 1

    def announce(self, tiles: int) -> str:
        """Say in one line where this number of tiles will be computed."""
        return f"computing {tiles} tile{'s' if tiles > 1 else ''} in this process"

    def connected(self) -> contextlib.AbstractContextManager[None]:
        """Nothing to connect to."""
        return contextlib.nullcontext()

    def budget(self, asked: int | None) -> int | None:
        """Bytes asked for, or most of what is free on this machine."""
        return asked or available_memory()

    def metrics(self, job: Job, tally: Tally) -> contextlib.AbstractContextManager[Report]:
        """None besides progress bar and event log."""
        return contextlib.nullcontext(lambda event: None)

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        """Compute and write every tile not done; see :class:`ddgm_dist.engine.protocol.Engine`."""
        solver, resident = TileSolver(job), job.resident(workers=1)
        history = History(solver.states.checkpoints, solver.grid)
        report(PoolEvent(1, None, None, time.time()))
        kind = {processor(solver.device): platform.node()}
        mixed = mixture(solver.writer.record, job.digest, kind, solver.worker)
        if mixed is not None:
            report(mixed)
        for group in job.plan.groups:
            if all(tile.name in done for tile in group):
                continue
            if len(group) == 1:
                (tile,) = group
                for event in solver.run(tile, history.newest([tile])):
                    if not isinstance(event, Paused):
                        report(event)
            else:
                _run_coupled(solver, group, history, resident, report)
        for tile in job.plan.combined:
            if tile.name not in done:
                report(solver.writer.combine(tile))


def _run_coupled(
    solver: TileSolver, group: Sequence[Tile], history: History, resident: bool, report: Report
) -> None:
    """Step-major, from the last checkpoint; from the one before if that is damaged."""
    while True:
        start = history.newest(group)
        try:
            _iterate(solver, group, start, history, resident, report)
            return
        except CheckpointDamagedError as error:
            history.damaged(error)
            report(FaultEvent.checkpoint_damaged(solver.worker, "", error))


def _iterate(
    solver: TileSolver,
    group: Sequence[Tile],
    start: Generation | None,
    history: History,
    resident: bool,
    report: Report,
) -> None:
    """All tiles take iteration n, then exchange and blend, then n + 1."""
    job, unit = solver.job, unit_name(group)
    load, saved = start, time.monotonic()
    mail: dict[str, dict[str, Piece]] = {tile.name: {} for tile in group}
    for n in range(start.iteration if start else 0, job.plan.iterations):
        due = time.monotonic() - saved >= job.checkpoint_every
        save = not resident or (due and n + 1 < job.plan.iterations)
        digests: dict[str, str] = {}
        arriving: dict[str, dict[str, Piece]] = {tile.name: {} for tile in group}
        for tile in group:
            stepped = solver.step(tile, n, mail[tile.name], load=load, save=save, keep=resident)
            for event in stepped.events:
                report(event)
            digests.update(stepped.digests)
            if resident:
                others = [t for t in solver.grid.receivers(tile) if t != tile]
                for other, piece in zip(others, solver.pieces(tile, n, others), strict=True):
                    if piece is not None:
                        arriving[other.name][tile.name] = piece
        load, mail = None, arriving
        if save:
            generation = Generation(n + 1, digests)
            history.commit(unit, generation)
            saved = time.monotonic()
            load = None if resident else generation
    for tile in group:
        report(solver.finish(tile, mail[tile.name], load))
    solver.drop([tile.name for tile in group])
    history.forget(unit)
