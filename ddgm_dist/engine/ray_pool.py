"""The actors of a run: started, admitted once they answer, replaced when lost."""

from __future__ import annotations

import contextlib
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from ddgm_dist.engine.base import Job
from ddgm_dist.engine.host import ONE_HEAP
from ddgm_dist.engine.ray_cluster import Shares, nodes, shares
from ddgm_dist.engine.ray_worker import CONCURRENCY, Hello, Worker, versions
from ddgm_dist.errors import DdgmError

__all__ = ["Member", "Pool"]


@dataclass(eq=False)
class Member:
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
    """

    name: str
    actor: Any
    asked: Any
    hello: Hello | None = None
    calls: list[Any] = field(default_factory=list)
    mark: float = field(default_factory=time.monotonic)
    count: int = 0
    pulse: Any = None
    probed: float | None = None
    leaving: bool = False


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
        self.members: dict[str, Member] = {}
        self._started = 0
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
            runtime_env={"env_vars": ONE_HEAP},
        )(Worker)
        self.grow()

    @property
    def ready(self) -> list[Member]:
        """Those that take calls."""
        return [m for m in self.members.values() if m.hello is not None]

    def grow(self) -> None:
        """Start actors until there are as many as there should be."""
        while len(self.members) < self.shares.workers:
            name = f"worker-{self._started}"
            self._started += 1
            actor = self._actor.options(name=f"ddgm-{self.run}-{name}").remote(
                self._job, name, self.shares.threads
            )
            self.members[name] = Member(name, actor, actor.hello.remote())

    def resize(self) -> None:
        """Follow a cluster that grows or shrinks, unless the user said how many."""
        if self.asked is None:
            with contextlib.suppress(DdgmError):  # a cluster that is empty for now
                found = shares(nodes(), None, self.useful, self.job.reserve)
                if found.workers > self.shares.workers:
                    self.shares = Shares(
                        found.workers,
                        self.shares.threads,
                        self.shares.cpus,
                        self.shares.gpus,
                        self.shares.memory,
                    )
        self.grow()

    def admit(self) -> list[Member]:
        """Those that have come up since the last call.

        Raises
        ------
        RayError
            A worker could not start.
        DdgmError
            It runs other versions than the driver.
        """
        waiting = {m.asked: m for m in self.members.values() if m.hello is None}
        if not waiting:
            return []
        refs, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        found = []
        for ref in refs:
            member = waiting[ref]
            hello: Hello = ray.get(ref)
            _check_versions(hello)
            member.hello, member.mark = hello, time.monotonic()
            found.append(member)
        return found

    def remove(self, member: Member) -> None:
        """End an actor, dead or alive."""
        self.members.pop(member.name, None)
        with contextlib.suppress(RayError):
            ray.kill(member.actor)

    def close(self) -> None:
        """End all."""
        for member in list(self.members.values()):
            self.remove(member)


def _check_versions(hello: Hello) -> None:
    ours = versions()
    other = [
        f"{package} {theirs} (here {ours.get(package)})"
        for package, theirs in hello.versions.items()
        if ours.get(package) != theirs
    ]
    if other:
        raise DdgmError(
            f"the workers on node {hello.node[:8]} have other versions than the driver: "
            f"{', '.join(other)}; install the same on every node, or results would differ"
        )
