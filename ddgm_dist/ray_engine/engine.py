"""The engine that spreads tiles over Ray actors. It schedules; ``tile/solver.py`` computes.

Actors are caches: a lost one is replaced and its work is done again from the last checkpoint, with
the same result, for every step is a function of addresses. The driver passes boxes and receives
receipts; pieces of coupled tiles go from actor to actor through the object store.
"""

from __future__ import annotations

import contextlib
import os

from ddgm_dist.engine.coupled import GroupWork
from ddgm_dist.engine.faults import Limits
from ddgm_dist.engine.stages import Stages
from ddgm_dist.engine.work import TileWork, Work
from ddgm_dist.errors import InputError
from ddgm_dist.ray_engine.cluster import connected, nodes
from ddgm_dist.ray_engine.dispatcher import Dispatcher, Timeouts
from ddgm_dist.ray_engine.metrics import RayMetrics
from ddgm_dist.ray_engine.pool import Pool
from ddgm_dist.ray_engine.reachable import check_ray, starts_here
from ddgm_dist.ray_engine.shares import memory_per_worker, shares, this_machine
from ddgm_dist.records.checkpoint import Checkpoints
from ddgm_dist.tile.events import Event, Report
from ddgm_dist.tile.grid import TileGrid
from ddgm_dist.tile.history import History
from ddgm_dist.tile.job import Job

__all__ = ["RayEngine"]


class RayEngine:
    """Tiles on Ray actors: one per GPU where there are GPUs, else CPU threads divided among them.

    Parameters
    ----------
    address
        Of an existing cluster (``auto`` finds one); None uses the Ray this process is connected to,
        or starts one on this machine for the time of the run.
    workers
        Actors; None takes one per GPU, or one per CPU, up to the number of things to do, and
        follows a cluster that grows.
    limits
        When a run is given up.
    patience
        Times of the driver.
    """

    name = "ray"

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        *,
        limits: Limits | None = None,
        patience: Timeouts | None = None,
    ) -> None:
        if workers is not None and workers < 1:
            raise InputError("workers", workers, "must be at least 1")
        self.address, self._workers = address, workers
        self.limits, self.patience = limits or Limits(), patience or Timeouts()
        self.last: Dispatcher | None = None

    @property
    def workers(self) -> int:
        """Actors asked for, or this machine's CPUs."""
        return self._workers or os.cpu_count() or 1

    def announce(self, tiles: int) -> str:
        """Where so many tiles will be computed, in one line."""
        if not starts_here(self.address):
            return f"running on the Ray cluster{f' at {self.address}' if self.address else ''}"
        count = shares([this_machine()], self._workers, tiles, None).workers
        return f"starting Ray ({count} worker{'s' if count > 1 else ''})"

    def connected(self) -> contextlib.AbstractContextManager[None]:
        """A connection to a cluster that is there; Ray is started only when a run begins."""
        if starts_here(self.address):
            check_ray(self.address)
            return contextlib.nullcontext()
        return connected(self.address)

    def budget(self, asked: int | None) -> int | None:
        """What was asked for, or an even share of the smallest node's memory, as Ray counts it.

        Where Ray is to be started here, its node is known before.

        Raises
        ------
        InputError
            There is not enough for the workers that were asked for.
        """
        with self.connected():
            found = [this_machine()] if starts_here(self.address) else nodes()
            most = shares(found, self._workers, 2**30, asked).workers
            return asked or memory_per_worker(found, most)

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        """Compute and write every tile not done; see :class:`ddgm_dist.engine.protocol.Engine`."""
        with connected(self.address):
            pool = Pool(job, self._workers, job.plan.units - len(done))
            metrics = _metrics(job, done, self.limits)

            def tell(event: Event) -> None:
                metrics(event)
                report(event)

            try:
                work, history = _work(job, done, pool.shares.workers)
                self.last = Dispatcher(job, pool, work, history, tell, self.limits, self.patience)
                self.last.run()
            finally:
                metrics.flush()
                pool.close()


def _metrics(job: Job, done: frozenset[str], limits: Limits) -> RayMetrics:
    before = sum(tile.write_box.size for tile in job.plan.tiles if tile.name in done)
    name = job.name or job.out.rstrip("/").rpartition("/")[2]
    # Ray's names are UTF-8, and in an ASCII locale Python's are not, if the folder has an accent.
    name = os.fsencode(name).decode(errors="replace")
    return RayMetrics(
        name,
        job.plan.work,
        before * job.plan.iterations,
        checkpoint_every=job.checkpoint_every,
        losses_allowed=limits.losses,
    )


def _work(job: Job, done: frozenset[str], workers: int) -> tuple[Work, History]:
    problem = job.problem
    grid = TileGrid(job.plan, problem.geometry, problem.rows_per_call)
    history = History(Checkpoints(job.out, grid.layout, job.digest), grid)
    work: Work
    if job.plan.order == "tile-major":
        work = TileWork([t for t in job.plan.tiles if t.name not in done], history)
    else:
        groups = [g for g in job.plan.groups if not all(t.name in done for t in g)]
        work = GroupWork(job.plan, grid, history, groups, resident=job.resident(workers))
    if job.plan.combined:
        combining = [t for t in job.plan.combined if t.name not in done]
        work = Stages(work, TileWork(combining, None))
    return work, history
