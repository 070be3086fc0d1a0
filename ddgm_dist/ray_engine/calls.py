"""Calls in flight: given to workers, repeated when asked for, and collected when they are answered."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from ddgm_dist.engine.work import Task, Work
from ddgm_dist.errors import DdgmError
from ddgm_dist.ray_engine.pool import Pool, WorkerHandle

__all__ = ["Call", "CallsInFlight"]


@dataclass(eq=False)
class Call:
    """A call in flight.

    Attributes
    ----------
    worker, work, task
        Worker that has the call; what the call is a part of; what to compute.
    inputs, outputs
        Handles of the pieces that the call takes, and of those that it makes.
    attempts
        Repetitions so far.
    since
        Time at which it was last sent, monotonic seconds.
    """

    worker: WorkerHandle
    work: Work
    task: Task
    inputs: tuple[Any, ...]
    outputs: list[Any] = field(default_factory=list)
    attempts: int = 0
    since: float = field(default_factory=time.monotonic)

    @property
    def tile(self) -> str:
        """Name of the tile."""
        return self.task.tile.name

    @property
    def is_stale(self) -> bool:
        """True if the outcome is not needed any more."""
        return self.work.is_stale(self.task)

    def requeue(self, *, last: bool = False) -> None:
        """Let the call be made again; see :meth:`.Work.requeue`."""
        self.work.requeue(self.task, last=last)


class CallsInFlight:
    """Calls that workers have not answered yet.

    Each worker has two: while one computes, the other reads ahead. That is the backpressure.

    Parameters
    ----------
    pool
        Workers that take the calls.
    work
        What the calls are taken from at first; see `begin`.

    Attributes
    ----------
    depth
        Calls per worker.
    """

    def __init__(self, pool: Pool, work: Work) -> None:
        self.pool, self.work, self.depth = pool, work, 2
        self._calls: dict[Any, Call] = {}

    def begin(self, work: Work) -> None:
        """Take calls from this work from now on, with the workers that are there."""
        self.work = work
        self.set_workers()
        for worker in self.pool.ready:
            if worker.draining:
                work.drain(worker.name)

    def set_workers(self) -> None:
        """Let the work know which workers take calls."""
        names = [w.name for w in self.pool.ready]
        if names:
            self.work.set_workers(names)

    def submit(self) -> None:
        """Give each worker a call, then a second one to read ahead."""
        for depth in range(1, self.depth + 1):
            for worker in self.pool.ready:
                if len(worker.calls) >= depth:
                    continue
                found = self.work.next(worker.name, ahead=depth > 1)
                if found is not None:
                    if not worker.calls:
                        worker.last_progress = time.monotonic()
                    self.send(Call(worker, self.work, *found))

    def send(self, call: Call) -> None:
        """Make a call, or make it again, on its worker."""
        actor, task = call.worker.actor, call.task
        if task.kind == "run":
            refs = [actor.run.remote(task)]
        elif task.kind == "combine":
            refs = [actor.combine.remote(task)]
        elif task.kind == "finish":
            refs = [actor.finish.remote(task, *call.inputs)]
        else:
            count = 1 + len(task.receivers)
            made = actor.step.options(num_returns=count).remote(task, *call.inputs)
            refs = [made] if count == 1 else made
        call.outputs = refs[1:]
        call.since = time.monotonic()
        self._calls[refs[0]] = call
        call.worker.calls.append(refs[0])

    def wait(self) -> bool:
        """Wait for an answer, 0.2 s at most; returns whether there is one."""
        if not self._calls:
            time.sleep(0.02)
            return False
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=0.2, fetch_local=False)
        return bool(ready)

    def collect(self) -> Iterator[tuple[Call, Any]]:
        """Calls that have ended, each with its answer, or with the error that it raised.

        Calls may be withdrawn while this runs; they are left out.
        """
        refs = list(self._calls)
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
        for ref in ready:
            if ref not in self._calls:
                continue
            call = self._calls.pop(ref)
            call.worker.calls.remove(ref)
            try:
                answer: Any = ray.get(ref)
            except (RayError, DdgmError) as error:
                answer = error
            yield call, answer

    def of(self, worker: WorkerHandle) -> list[Call]:
        """A worker's calls in flight, oldest first."""
        return [self._calls[ref] for ref in worker.calls if ref in self._calls]

    def withdraw(self, workers: Collection[WorkerHandle]) -> list[Call]:
        """Forget all calls of some workers; returns them."""
        found = [call for worker in workers for call in self.of(worker)]
        for worker in workers:
            for ref in worker.calls:
                self._calls.pop(ref, None)
            worker.calls.clear()
        return found

    def discard(self, call: Call) -> None:
        """End a stale call: its worker forgets the state that it kept of it."""
        call.work.discard(call.worker.name, call.task)
        self.drop_states(call.work)

    def drop_states(self, work: Work) -> None:
        """Let workers forget the states that they hold to no use."""
        for name, tiles in work.drops():
            if name in self.pool.workers:
                self.pool.workers[name].actor.drop.remote(tiles)
