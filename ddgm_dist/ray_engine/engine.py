"""The engine that spreads tiles over Ray actors. It schedules; ``tile/solver.py`` computes.

Actors are caches. A lost one is replaced, and its work is done again from the last checkpoint. The
result is the same, as every step is a function of addresses. The driver passes boxes and receives
receipts; pieces of coupled tiles go from actor to actor through the object store.
"""

from __future__ import annotations

import contextlib
import os

from ddgm_dist.engine.coupled import GroupWork
from ddgm_dist.engine.faults import Limits
from ddgm_dist.engine.tally import Tally
from ddgm_dist.engine.work import TileWork, Work
from ddgm_dist.errors import InputError
from ddgm_dist.ray_engine.cluster import connected, nodes
from ddgm_dist.ray_engine.dispatcher import Dispatcher
from ddgm_dist.ray_engine.metrics import RayMetrics
from ddgm_dist.ray_engine.pool import Pool
from ddgm_dist.ray_engine.reachable import check_ray, starts_here
from ddgm_dist.ray_engine.shares import memory_per_worker, shares, this_machine
from ddgm_dist.ray_engine.watch import Timeouts
from ddgm_dist.records.checkpoint import Checkpoints
from ddgm_dist.tile.events import Report
from ddgm_dist.tile.grid import TileGrid
from ddgm_dist.tile.history import History
from ddgm_dist.tile.job import Job

__all__ = ["RayEngine"]


class RayEngine:
    """Tiles on Ray actors: one per GPU where there are GPUs, else CPU threads divided among them.

    Parameters
    ----------
    address
        Address of an existing cluster (``auto`` finds one). None uses the Ray that this process is
        connected to, or starts one on this machine for the time of the run.
    workers
        Number of actors. None takes one per GPU, or one per CPU, up to the number of tiles, and
        follows a cluster that grows.
    limits
        Faults after which a run gives up.
    timeouts
        Timeouts and intervals of the driver.

    Attributes
    ----------
    dispatcher
        The loop of the run that is under way, or of the last one.
    """

    name = "ray"

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        *,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        if workers is not None and workers < 1:
            raise InputError("workers", workers, "must be at least 1")
        self.address, self._workers = address, workers
        self.limits, self.timeouts = limits or Limits(), timeouts or Timeouts()
        self.dispatcher: Dispatcher | None = None

    @property
    def workers(self) -> int:
        """Number of actors asked for, or of this machine's CPUs."""
        return self._workers or os.cpu_count() or 1

    def announce(self, tiles: int) -> str:
        """Say in one line where this number of tiles will be computed."""
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
        """Bytes asked for, or an even share of the smallest node's memory, as Ray counts it.

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

    def metrics(self, job: Job, tally: Tally) -> contextlib.AbstractContextManager[Report]:
        """The run's figures for Prometheus, exported by Ray."""
        name = job.name or job.out.name
        # Ray's names are UTF-8, and in an ASCII locale Python's are not, if the folder has an accent.
        name = os.fsencode(name).decode(errors="replace")
        return RayMetrics(
            name,
            tally,
            checkpoint_every=job.checkpoint_every,
            losses_allowed=self.limits.losses,
        )

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        """Compute and write every tile not done; see :class:`ddgm_dist.engine.protocol.Engine`."""
        with connected(self.address):
            pool = Pool(job, self._workers, job.plan.units - len(done))
            try:
                stages, history = _stages(job, done, pool.shares.workers)
                self.dispatcher = Dispatcher(
                    job, pool, stages, history, report, self.limits, self.timeouts
                )
                self.dispatcher.run()
            finally:
                pool.close()


def _stages(job: Job, done: frozenset[str], workers: int) -> tuple[list[Work], History]:
    """The samples' tiles, then what is combined of them; and the checkpoints of the former."""
    problem = job.problem
    grid = TileGrid(job.plan, problem.geometry, problem.rows_per_call)
    history = History(Checkpoints(job.out, grid.layout, job.digest), grid)
    work: Work
    if job.plan.order == "tile-major":
        work = TileWork([t for t in job.plan.tiles if t.name not in done], history)
    else:
        groups = [g for g in job.plan.groups if not all(t.name in done for t in g)]
        work = GroupWork(job.plan, grid, history, groups, resident=job.resident(workers))
    combined = TileWork([t for t in job.plan.combined if t.name not in done], None)
    return [work, combined], history
