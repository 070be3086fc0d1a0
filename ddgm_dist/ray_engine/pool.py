"""The actors of a run: started, admitted if they answer and are fit, replaced when lost.

A refused actor stays for as long as its node does, so that Ray starts no other in its place. One that
could not start makes room after a while, as what was missing may be there by then.
"""

from __future__ import annotations

import contextlib
import math
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from ddgm_dist.engine.faults import Fault
from ddgm_dist.errors import DdgmError
from ddgm_dist.ray_engine.cluster import alive, nodes
from ddgm_dist.ray_engine.errors import fault_of, last_line
from ddgm_dist.ray_engine.shares import Shares, shares
from ddgm_dist.ray_engine.worker import CONCURRENCY, Handshake, Worker, versions
from ddgm_dist.tile.host import ALLOCATION
from ddgm_dist.tile.job import Job

__all__ = ["Pool", "Refusal", "WorkerHandle"]

# Bounds on the seconds after which a worker that could not start makes room for another try. Between
# them, it is as long as workers have failed to start on its node.
_RETRY_SECONDS = (30.0, 600.0)


@dataclass(eq=False)
class WorkerHandle:
    """One actor as the driver sees it.

    Attributes
    ----------
    name
        ``worker-3``; a replacement takes a new number.
    actor
        Ray's handle of the actor.
    handshake_ref, handshake
        Reference of the handshake that was asked for, and its value; None until it is there.
    calls
        References of calls in flight.
    last_progress
        Time at which it last showed progress, monotonic seconds.
    event_count
        Number of events that it had by its last heartbeat.
    heartbeat_ref
        Reference of a heartbeat that was asked for.
    probed_since
        When its heartbeat was first awaited for want of progress, monotonic seconds.
    draining
        Whether its node is about to be removed.
    refusal
        Refusal of the worker, which then takes no calls.
    retry_at
        Time at which a refused one makes room for another, monotonic seconds.
    """

    name: str
    actor: Any
    handshake_ref: Any
    handshake: Handshake | None = None
    calls: list[Any] = field(default_factory=list)
    last_progress: float = field(default_factory=time.monotonic)
    event_count: int = 0
    heartbeat_ref: Any = None
    probed_since: float | None = None
    draining: bool = False
    refusal: Refusal | None = None
    retry_at: float = math.inf


@dataclass(frozen=True, eq=False)
class Refusal:
    """Refusal to admit a worker that was started.

    Attributes
    ----------
    worker
        The worker that is refused.
    fault
        ``START``, ``VERSIONS``, or how it was lost before it was up.
    why
        One line: the error, or the versions that differ.
    node
        Ray's identifier of its node; empty if that is unknown.
    """

    worker: WorkerHandle
    fault: Fault
    why: str
    node: str = ""

    @property
    def place(self) -> str:
        """The node, or else the cause: workers that fail for the same cause have it in common."""
        return self.node or self.why

    @property
    def message(self) -> str:
        """One line for the user."""
        return f"node {self.node[:8]}: {self.why}" if self.node else self.why


class Pool:
    """Actors of one job.

    Parameters
    ----------
    job
        Job that the workers compute.
    requested
        Number of workers that the user asked for; None follows what the cluster has.
    useful
        Number of workers beyond which more would have nothing to do.

    Attributes
    ----------
    workers
        All that were started and not removed, by name.
    shares
        Resources of each worker, and their number.
    """

    def __init__(self, job: Job, requested: int | None, useful: int) -> None:
        self.job, self.requested, self.useful = job, requested, useful
        self.shares: Shares = shares(nodes(), requested, useful, job.reserve)
        self.workers: dict[str, WorkerHandle] = {}
        self._run_id = uuid.uuid4().hex[:8]
        self._started = 0
        # Nodes (or causes, where a node is unknown) that had no fit worker, since when.
        self._unfit_since: dict[str, float] = {}
        # Once in the object store, not once per actor.
        self._job = ray.put(job)
        # Retries are the driver's, which knows what was lost: max_restarts=0 also makes every
        # death final at once, a preempted one too. One class for all actors, for exporting one takes
        # a tenth of a second; its options go to the decorator, as `.options()` refuses
        # concurrency groups.
        remote: Any = ray.remote
        self._actor: Any = remote(
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups=CONCURRENCY,
            num_cpus=self.shares.cpus,
            num_gpus=self.shares.gpus,
            memory=self.shares.memory or None,
            runtime_env={"env_vars": ALLOCATION},
        )(Worker)
        self.grow()

    @property
    def ready(self) -> list[WorkerHandle]:
        """Workers that take calls."""
        return [w for w in self.workers.values() if w.handshake is not None and w.refusal is None]

    @property
    def refusals(self) -> list[Refusal]:
        """Refusals of all workers that are kept so that no other is started in their place."""
        return [w.refusal for w in self.workers.values() if w.refusal is not None]

    @property
    def holding(self) -> int:
        """Number of refused workers that occupy their node: as many others may be started."""
        return sum(bool(r.node) for r in self.refusals)

    def grow(self) -> None:
        """Start actors until there are as many as there should be."""
        # Where the cluster says how many, those that occupy their node are counted in `resize`.
        more = 0 if self.requested is None else self.holding
        while len(self.workers) < self.shares.workers + more:
            name = f"worker-{self._started}"
            self._started += 1
            actor = self._actor.options(name=f"ddgm-{self._run_id}-{name}").remote(
                self._job, name, self.shares.threads
            )
            self.workers[name] = WorkerHandle(name, actor, actor.handshake.remote())

    def resize(self) -> None:
        """Follow a cluster that grows or shrinks, unless the user said how many."""
        self._remove_refused()
        if self.requested is None:
            with contextlib.suppress(DdgmError):  # a cluster that is empty for now
                found = shares(nodes(), None, self.useful + self.holding, self.job.reserve)
                if found.workers > self.shares.workers:
                    self.shares = replace(self.shares, workers=found.workers)
        self.grow()

    def admit(self) -> tuple[list[WorkerHandle], list[Refusal]]:
        """Workers that have come up since the last call, and refusals of those that are unfit."""
        waiting = {
            w.handshake_ref: w
            for w in self.workers.values()
            if w.handshake is None and w.refusal is None
        }
        if not waiting:
            return [], []
        refs, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        admitted: list[WorkerHandle] = []
        refusals: list[Refusal] = []
        for ref in refs:
            worker = waiting[ref]
            try:
                worker.handshake = ray.get(ref)
            except RayError as error:
                # A handshake raises where not even this package can be imported.
                fault = Fault.START if isinstance(error, RayTaskError) else fault_of(error)
                refusals.append(Refusal(worker, fault, last_line(error)))
                continue
            refusal = _unfit(worker, worker.handshake)
            if refusal is not None:
                refusals.append(refusal)
                continue
            worker.last_progress = time.monotonic()
            self._unfit_since.pop(worker.handshake.node, None)
            admitted.append(worker)
        return admitted, refusals

    def refuse(self, refusal: Refusal) -> bool:
        """Give a worker no calls, and start none in its place.

        Returns
        -------
        bool
            True if it is the first refusal at its place since a worker was fit there.
        """
        worker, now = refusal.worker, time.monotonic()
        first = refusal.place not in self._unfit_since
        since = self._unfit_since.setdefault(refusal.place, now)
        worker.refusal = refusal
        if refusal.fault is Fault.START:
            least, most = _RETRY_SECONDS
            worker.retry_at = now + min(most, max(least, now - since))
        return first

    def _remove_refused(self) -> None:
        """End refused workers that make room for another try, or whose node is gone."""
        if not self.refusals:
            return
        there, now = alive(), time.monotonic()
        for refusal in self.refusals:
            if now >= refusal.worker.retry_at or (refusal.node and refusal.node not in there):
                self.remove(refusal.worker)

    def release(self, nodes: Collection[str]) -> None:
        """End refused workers of nodes that are about to be removed."""
        for refusal in self.refusals:
            if refusal.node in nodes:
                self.remove(refusal.worker)

    def lost_with(self, worker: WorkerHandle) -> list[WorkerHandle]:
        """A worker that was lost, and all others of its node if that is gone."""
        if worker.handshake is None or worker.handshake.node in alive():
            return [worker]
        node = worker.handshake.node
        others = [w for w in self.ready if w.handshake and w.handshake.node == node]
        return [worker, *(w for w in others if w is not worker)]

    def remove(self, worker: WorkerHandle) -> None:
        """End an actor, dead or alive."""
        self.workers.pop(worker.name, None)
        with contextlib.suppress(RayError):
            ray.kill(worker.actor)

    def close(self) -> None:
        """End all actors."""
        for worker in list(self.workers.values()):
            self.remove(worker)


def _unfit(worker: WorkerHandle, handshake: Handshake) -> Refusal | None:
    ours = versions()
    other = [
        f"{package} {theirs} (here {ours.get(package)})"
        for package, theirs in handshake.versions.items()
        if ours.get(package) != theirs
    ]
    # Versions first: an error that another version reports may mean something else.
    if other:
        return Refusal(worker, Fault.VERSIONS, ", ".join(other), handshake.node)
    if handshake.error:
        return Refusal(worker, Fault.START, handshake.error, handshake.node)
    return None
