"""The engine that spreads tiles over Ray actors. It schedules; ``engine/tile.py`` computes.

Actors are caches: a lost one is replaced and its work is done again, with the same result, for every
step is a function of addresses. The driver passes boxes and receives receipts; halos of coupled
tiles go from actor to actor through the object store.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import ray
import torch
from ray.exceptions import GetTimeoutError, ObjectLostError, RayActorError, RayError, RayTaskError

from ddgm_dist.engine.base import Job, Receipt, Report, StepEvent
from ddgm_dist.engine.blending import Piece, piece_receivers
from ddgm_dist.engine.tile import TileSolver
from ddgm_dist.errors import DdgmError, InputError
from ddgm_dist.plan.plan import Plan
from ddgm_dist.plan.tiling import Tile

__all__ = ["RayEngine"]

POLL_SECONDS = 0.5


class Worker:
    """One actor: a tile solver, its threads, and the events it has not reported yet."""

    def __init__(self, job: Job, name: str, threads: int) -> None:
        self.threads = threads
        self.events: deque[StepEvent] = deque()
        torch.set_num_threads(threads)
        self.solver = TileSolver(job, name)

    def ready(self) -> bool:
        """Answer once the actor is up."""
        return True

    @ray.method(concurrency_group="events")
    def drain(self) -> list[StepEvent]:
        """Events since the last call; answered while a tile runs."""
        found = []
        while self.events:
            found.append(self.events.popleft())
        return found

    def run(self, tile: Tile) -> Receipt:
        """All iterations of an uncoupled tile."""
        torch.set_num_threads(self.threads)  # OpenMP keeps it per thread: this may be a new one
        receipt: Receipt | None = None
        for event in self.solver.run(tile):
            if isinstance(event, Receipt):
                receipt = event
            else:
                self.events.append(event)
        assert receipt is not None
        return receipt

    def start(self, tile: Tile) -> None:
        """Begin a coupled tile."""
        torch.set_num_threads(self.threads)
        self.solver.start(tile)

    def step(self, tile: Tile, n: int, receivers: Sequence[str]) -> Any:
        """Iteration n of a coupled tile: its events, then a piece for each receiver."""
        torch.set_num_threads(self.threads)
        events, pieces = self.solver.step(tile, n)
        return [events, *(pieces[name] for name in receivers)]

    def exchange(self, tile: Tile, senders: Sequence[str], *pieces: Piece) -> None:
        """Blend what the tiles around (and this one) computed."""
        self.solver.exchange(tile, dict(zip(senders, pieces, strict=True)))

    def finish(self, tile: Tile) -> Receipt:
        """Write a coupled tile."""
        return self.solver.finish(tile)


class RayEngine:
    """Tiles on Ray actors: one per GPU where there are GPUs, else CPU threads divided among them.

    Parameters
    ----------
    address
        Of an existing cluster (``auto`` finds one); None uses the Ray this process is connected to,
        or starts one on this machine for the time of the run.
    workers
        Actors; None takes one per GPU, or one per CPU up to the number of things to do.
    retries
        Lost actors that are replaced before the run fails.
    """

    name = "ray"

    def __init__(
        self, address: str | None = None, workers: int | None = None, *, retries: int = 8
    ) -> None:
        if workers is not None and workers < 1:
            raise InputError("workers", workers, "must be at least 1")
        self.address, self._workers, self.retries = address, workers, retries

    @property
    def workers(self) -> int:
        """Actors asked for, or this machine's CPUs."""
        return self._workers or os.cpu_count() or 1

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        """Compute and write every tile not done; see :class:`ddgm_dist.engine.base.Engine`."""
        with _connected(self.address):
            pool = _Pool(job, self._workers, self.retries)
            try:
                if job.plan.order == "tile-major":
                    todo = [tile for tile in job.plan.tiles if tile.name not in done]
                    _run_tiles(pool, todo, report)
                else:
                    for group in job.plan.groups:
                        if not all(tile.name in done for tile in group):
                            _run_group(pool, job.plan, group, report)
            finally:
                pool.close()


class _Pool:
    """Actors of one job, replaced when lost, against a budget."""

    def __init__(self, job: Job, workers: int | None, retries: int) -> None:
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus, cpus = int(resources.get("GPU", 0)), max(1, int(resources.get("CPU", 1)))
        widest = len(job.plan.groups[0])
        useful = widest if widest > 1 else len(job.plan.tiles)
        count = workers or min(gpus or cpus, useful)
        self.threads = max(1, cpus // count)
        # Fractions let more workers than CPUs or GPUs start, as the user asked.
        share = min(1.0, gpus / count) if gpus else 0.0
        self.options = {
            "max_restarts": 0,
            "max_task_retries": 0,
            "concurrency_groups": {"events": 1},
            "num_gpus": share,
            "num_cpus": min(1.0, cpus / count) * self.threads,
        }
        self.job, self.retries, self.lost = job, retries, 0
        self.asked: dict[int, Any] = {}
        self.actors = [self._make(i) for i in range(count)]

    def _make(self, index: int) -> Any:
        # Retries are the driver's: it knows which tile was lost. All options go to the decorator:
        # `.options()` refuses concurrency groups.
        decorate: Any = ray.remote
        return decorate(**self.options)(Worker).remote(self.job, f"worker-{index}", self.threads)

    def count_loss(self, error: Exception) -> None:
        """Take a lost actor or object off the budget.

        Raises
        ------
        DdgmError
            When an actor could not start, or the budget is spent.
        """
        if getattr(error, "actor_init_failed", False):
            raise DdgmError(
                f"a worker could not start: {_last_line(error)}; is the same environment, with "
                "ddgm-dist in it, on every node?"
            ) from error
        self.lost += 1
        if self.lost > self.retries:
            raise DdgmError(
                f"{self.lost} workers were lost, more than the {self.retries} allowed: "
                f"{_last_line(error)}; "
                "finished tiles are kept, run the same command again to go on"
            ) from error

    def renew(self, index: int) -> None:
        """Make a new actor for a lost one."""
        self.asked.pop(index, None)
        with contextlib.suppress(RayError):
            ray.kill(self.actors[index])
        self.actors[index] = self._make(index)

    def drain(self, report: Report, *, patience: float = 0.0) -> None:
        """Report what the actors have done; an answer that is late is taken next time."""
        for index, actor in enumerate(self.actors):
            ref = self.asked.pop(index, None) or actor.drain.remote()
            ready, _ = ray.wait([ref], timeout=patience)
            if not ready:
                self.asked[index] = ref
                continue
            try:
                events = ray.get(ref)
            except RayError:  # a lost actor: its tile tells
                continue
            for event in events:
                report(event)

    def close(self) -> None:
        """End all actors."""
        for actor in self.actors:
            with contextlib.suppress(RayError):
                ray.kill(actor)


def _run_tiles(pool: _Pool, tiles: Sequence[Tile], report: Report) -> None:
    """Tile-major: each idle actor takes the next tile."""
    waiting = deque(tiles)
    running: dict[Any, tuple[int, Tile]] = {}
    idle = deque(range(len(pool.actors)))
    while waiting or running:
        while waiting and idle:
            index, tile = idle.popleft(), waiting.popleft()
            running[pool.actors[index].run.remote(tile)] = (index, tile)
        finished, _ = ray.wait(list(running), num_returns=1, timeout=POLL_SECONDS)
        pool.drain(report)
        for ref in finished:
            index, tile = running.pop(ref)
            try:
                report(_get(ref, tile.name))
            except RayActorError as error:
                pool.count_loss(error)
                pool.renew(index)
                waiting.appendleft(tile)
            idle.append(index)
    for _ in range(2):  # an answer asked for earlier, then what came after it
        pool.drain(report, patience=30)


def _run_group(pool: _Pool, plan: Plan, group: Sequence[Tile], report: Report) -> None:
    """Step-major: iterate until the group is written; start it again when an actor is lost."""
    while True:
        home = {tile.name: i % len(pool.actors) for i, tile in enumerate(group)}
        try:
            for receipt in _iterate_group(pool, plan, group, home, report):
                report(receipt)
            return
        except (RayActorError, ObjectLostError) as error:
            pool.count_loss(error)
            for index, actor in enumerate(pool.actors):
                try:
                    ray.get(actor.ready.remote(), timeout=60)
                except (RayActorError, GetTimeoutError):
                    pool.renew(index)


def _iterate_group(
    pool: _Pool, plan: Plan, group: Sequence[Tile], home: dict[str, int], report: Report
) -> list[Receipt]:
    actor = {tile.name: pool.actors[home[tile.name]] for tile in group}
    receivers = {tile.name: piece_receivers(tile, group, plan.margin) for tile in group}
    _get_all([actor[tile.name].start.remote(tile) for tile in group], "start")
    for n in range(plan.iterations):
        events, mail = [], {tile.name: ([], []) for tile in group}  # type: ignore[var-annotated]
        for tile in group:
            names = receivers[tile.name]
            method = actor[tile.name].step.options(num_returns=1 + len(names))
            first, *pieces = method.remote(tile, n, names)
            events.append(first)
            for name, piece in zip(names, pieces, strict=True):
                mail[name][0].append(tile.name)
                mail[name][1].append(piece)
        exchanged = [
            actor[tile.name].exchange.remote(tile, mail[tile.name][0], *mail[tile.name][1])
            for tile in group
        ]
        for batch in _get_all(events, f"iteration {n}"):
            for event in batch:
                report(event)
        _get_all(exchanged, f"exchange after iteration {n}")
    receipts: list[Receipt] = _get_all([actor[t.name].finish.remote(t) for t in group], "write")
    return receipts


def _last_line(error: Exception) -> str:
    """What went wrong, without the remote traceback."""
    return str(error).strip().splitlines()[-1].strip()


def _get(ref: Any, what: str) -> Any:
    """The result of a call; an error of ours comes out as itself, a bug names where it was."""
    try:
        return ray.get(ref)
    except RayTaskError as error:
        if isinstance(error.cause, (DdgmError, RayActorError, ObjectLostError)):
            raise error.cause from None
        raise DdgmError(f"{what}: {error}") from error


def _get_all(refs: Sequence[Any], what: str) -> list[Any]:
    return [_get(ref, what) for ref in refs]


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """A connection to Ray for the time of a run, leaving one that exists as it is."""
    if ray.is_initialized():
        yield
        return
    before = dict(os.environ)
    handler = signal.getsignal(signal.SIGTERM)
    options: dict[str, Any] = {"configure_logging": False, "log_to_driver": False}
    if address is None:
        # A cluster of our own. Where RAY_AUTH_MODE is unset Ray makes it ask for a token (and keeps
        # one in ~/.ray), so that other users of the network cannot talk to it.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options |= {"include_dashboard": False, "num_cpus": os.cpu_count()}
    try:
        ray.init(address=address, **options)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # ray.init takes it; a library must not
        yield
    except ConnectionError as error:
        raise InputError(
            "address", address, f"no Ray cluster answers there ({error})", "is `ray start` running?"
        ) from error
    finally:
        ray.shutdown()
        for key in set(os.environ) - set(before):
            del os.environ[key]
        os.environ.update(before)
