"""The actors of a run: started, admitted once they answer and if they are fit, replaced when lost.

An actor that is refused stays where it is for as long as its node does, so that Ray puts no other in
its place; one that could not start gives it up after a while, for what was missing may be there by then.
"""

from __future__ import annotations

import contextlib
import math
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
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

# Seconds after which a worker that could not start makes room for another try: as long as such tries
# have been in vain on its node, but within these bounds.
_AGAIN = (30.0, 600.0)


@dataclass(eq=False)
class WorkerHandle:
    """One actor as the driver sees it.

    Attributes
    ----------
    name
        ``worker-3``; a replacement takes a new number.
    actor
        Its handle.
    hello
        Who it is; None until it has answered.
    calls
        References of calls in flight.
    mark
        When it last showed progress, monotonic seconds.
    count
        Events that it had by its last pulse.
    pulse, probed
        A sign of life that was asked for; when, if it was for want of progress.
    leaving
        Whether its node is about to go.
    refused
        Why it takes no calls.
    until
        When a refused one makes room for another, monotonic seconds.
    """

    name: str
    actor: Any
    asked: Any
    hello: Handshake | None = None
    calls: list[Any] = field(default_factory=list)
    mark: float = field(default_factory=time.monotonic)
    count: int = 0
    pulse: Any = None
    probed: float | None = None
    leaving: bool = False
    refused: Refusal | None = None
    until: float = math.inf


@dataclass(frozen=True, eq=False)
class Refusal:
    """Why a worker that was started is not admitted.

    Attributes
    ----------
    member
        Which.
    fault
        ``START``, ``VERSIONS``, or how it was lost before it was up.
    why
        In one line: the error, or the versions.
    node
        Where it is; empty where it could not even tell that.
    """

    member: WorkerHandle
    fault: Fault
    why: str
    node: str = ""

    @property
    def place(self) -> str:
        """What the workers that fail for the same cause have in common."""
        return self.node or self.why

    @property
    def told(self) -> str:
        """For people."""
        return f"node {self.node[:8]}: {self.why}" if self.node else self.why


class Pool:
    """Actors of one job.

    Parameters
    ----------
    job
        What they compute.
    workers
        As the user asked; None follows what the cluster has.
    useful
        More are of no use.
    """

    def __init__(self, job: Job, workers: int | None, useful: int) -> None:
        self.job, self.asked, self.useful = job, workers, useful
        self.shares: Shares = shares(nodes(), workers, useful, job.reserve)
        self.run = uuid.uuid4().hex[:8]
        self.members: dict[str, WorkerHandle] = {}
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
        """Those that take calls."""
        return [m for m in self.members.values() if m.hello is not None and m.refused is None]

    @property
    def refused(self) -> list[Refusal]:
        """One of each place where workers cannot work."""
        return list({r.place: r for r in self._refused}.values())

    @property
    def _refused(self) -> list[Refusal]:
        return [m.refused for m in self.members.values() if m.refused is not None]

    @property
    def holding(self) -> int:
        """Refused ones that are alive: no other can be put in their place, so others may be started."""
        return sum(bool(r.node) for r in self._refused)

    def grow(self) -> None:
        """Start actors until there are as many as there should be."""
        # Where the cluster says how many, those that are held there are counted in `resize`.
        more = 0 if self.asked is None else self.holding
        while len(self.members) < self.shares.workers + more:
            name = f"worker-{self._started}"
            self._started += 1
            actor = self._actor.options(name=f"ddgm-{self.run}-{name}").remote(
                self._job, name, self.shares.threads
            )
            self.members[name] = WorkerHandle(name, actor, actor.hello.remote())

    def resize(self) -> None:
        """Follow a cluster that grows or shrinks, unless the user said how many."""
        self._make_room()
        if self.asked is None:
            with contextlib.suppress(DdgmError):  # a cluster that is empty for now
                found = shares(nodes(), None, self.useful + self.holding, self.job.reserve)
                if found.workers > self.shares.workers:
                    self.shares = Shares(
                        found.workers,
                        self.shares.threads,
                        self.shares.cpus,
                        self.shares.gpus,
                        self.shares.memory,
                    )
        self.grow()

    def admit(self) -> tuple[list[WorkerHandle], list[Refusal]]:
        """Those that have come up since the last call, and those that are not fit to work."""
        waiting = {m.asked: m for m in self.members.values() if m.hello is None and not m.refused}
        if not waiting:
            return [], []
        refs, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        found: list[WorkerHandle] = []
        refusals: list[Refusal] = []
        for ref in refs:
            member = waiting[ref]
            try:
                member.hello = ray.get(ref)
            except RayError as error:
                # What `hello` raises comes of a node where not even this package can be imported.
                fault = Fault.START if isinstance(error, RayTaskError) else fault_of(error)
                refusals.append(Refusal(member, fault, last_line(error)))
                continue
            refusal = _unfit(member, member.hello)
            if refusal is not None:
                refusals.append(refusal)
                continue
            member.mark = time.monotonic()
            self._unfit_since.pop(member.hello.node, None)
            found.append(member)
        return found, refusals

    def refuse(self, refusal: Refusal) -> bool:
        """Give a worker no calls, and no successor in its place; whether that is news."""
        member, now = refusal.member, time.monotonic()
        news = refusal.place not in self._unfit_since
        since = self._unfit_since.setdefault(refusal.place, now)
        member.refused = refusal
        if refusal.fault is Fault.START:
            least, most = _AGAIN
            member.until = now + min(most, max(least, now - since))
        return news

    def _make_room(self) -> None:
        """End refused ones that are due, or whose node is gone."""
        if not self._refused:
            return
        there, now = alive(), time.monotonic()
        for refusal in self._refused:
            if now >= refusal.member.until or (refusal.node and refusal.node not in there):
                self.remove(refusal.member)

    def release(self, nodes: Collection[str]) -> None:
        """End refused ones of nodes that are about to go."""
        for refusal in self._refused:
            if refusal.node in nodes:
                self.remove(refusal.member)

    def gone_with(self, member: WorkerHandle) -> list[WorkerHandle]:
        """A member that was lost, and all others of its node if that is gone."""
        if member.hello is None or member.hello.node in alive():
            return [member]
        node = member.hello.node
        others = [m for m in self.ready if m.hello and m.hello.node == node and m is not member]
        return [member, *others]

    def remove(self, member: WorkerHandle) -> None:
        """End an actor, dead or alive."""
        self.members.pop(member.name, None)
        with contextlib.suppress(RayError):
            ray.kill(member.actor)

    def close(self) -> None:
        """End all."""
        for member in list(self.members.values()):
            self.remove(member)


def _unfit(member: WorkerHandle, hello: Handshake) -> Refusal | None:
    ours = versions()
    other = [
        f"{package} {theirs} (here {ours.get(package)})"
        for package, theirs in hello.versions.items()
        if ours.get(package) != theirs
    ]
    # First, for nothing else that another version tells can be relied on.
    if other:
        return Refusal(member, Fault.VERSIONS, ", ".join(other), hello.node)
    if hello.error:
        return Refusal(member, Fault.START, hello.error, hello.node)
    return None
