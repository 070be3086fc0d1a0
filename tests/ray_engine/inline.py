"""The engine on Ray without Ray: its driver's loop and its workers in one process, call after call.

Calls are made one at a time, in the order in which they were submitted, when the loop waits for an
answer. Time passes only where the loop sleeps or waits. So any order of faults can be planted, and
minutes of waiting take no time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from ddgm_dist.engine.faults import Limits
from ddgm_dist.engine.tally import Tally
from ddgm_dist.engine.work import Work
from ddgm_dist.ray_engine import admission, calls, dispatcher, setbacks
from ddgm_dist.ray_engine import watch as watch_module
from ddgm_dist.ray_engine.dispatcher import Dispatcher
from ddgm_dist.ray_engine.engine import _stages
from ddgm_dist.ray_engine.pool import WorkerHandle
from ddgm_dist.ray_engine.watch import Timeouts
from ddgm_dist.ray_engine.worker import Worker
from ddgm_dist.tile.events import Event, FaultEvent, Report
from ddgm_dist.tile.history import History
from ddgm_dist.tile.job import Job

__all__ = ["Clock", "DiesError", "Inline", "InlineEngine", "InlinePool", "set_clock"]


class DiesError(BaseException):
    """Raised in a worker: its process ends."""


class Clock:
    """In the place of `time` in the driver's loop."""

    perf_counter, time = staticmethod(time.perf_counter), staticmethod(time.time)

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def set_clock(patch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Let the driver's loop take its time from a clock."""
    for module in (admission, calls, dispatcher, setbacks, watch_module):
        patch.setattr(module, "time", clock)


class Inline:
    """In the place of `ray` in the driver's loop: a reference is a call that is yet to be made.

    Attributes
    ----------
    waits
        How many references were waited for, and for how long at most.
    busy
        Whether all workers still compute: only their heartbeats are answered.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.waits: list[tuple[int, float | None]] = []
        self.busy: Callable[[], bool] = lambda: False

    def wait(
        self,
        refs: list[Reference],
        *,
        num_returns: int = 1,
        timeout: float | None = None,
        fetch_local: bool = True,
    ) -> tuple[list[Reference], list[Reference]]:
        self.waits.append((len(refs), timeout))
        ready = [ref for ref in refs if ref.call.made or ref.sign]
        for ref in refs:
            if timeout == 0 or len(ready) >= num_returns:
                break
            if ref not in ready and not ref.lost and not self.busy():
                self.clock.now += 0.01
                ref.call.run()
                ready.append(ref)
        if len(ready) < num_returns:
            self.clock.now += timeout or 0.0
        ready = [ref for ref in refs if ref in ready][:num_returns]
        return ready, [ref for ref in refs if ref not in ready]

    def get(self, ref: Reference) -> Any:
        return ref.value()


class _Call:
    """A call of a worker; made once."""

    def __init__(self, actor: Actor, method: str, arguments: tuple[Any, ...]) -> None:
        self.actor, self.method, self.arguments = actor, method, arguments
        self.made = False
        self.answer: Any = None

    def run(self) -> None:
        if not self.made:
            self.made = True
            self.answer = self._run()

    def _run(self) -> Any:
        if self.actor.dead:
            return ActorDiedError()
        try:
            given = [a.value() if isinstance(a, Reference) else a for a in self.arguments]
        except (RayTaskError, ActorDiedError) as error:
            return error  # of the call that was to give a piece
        try:
            return getattr(self.actor.worker, self.method)(*given)
        except DiesError:
            self.actor.dead = True
            return ActorDiedError()
        except Exception as error:
            return RayTaskError(self.method, str(error), error)


class Reference:
    """One of the values that a call returns."""

    def __init__(self, call: _Call, part: int | None) -> None:
        self.call, self.part = call, part

    @property
    def sign(self) -> bool:
        """Whether it is answered at once, also by a worker that computes."""
        return self.call.method == "heartbeat" and not self.lost

    @property
    def lost(self) -> bool:
        """Whether no answer comes."""
        return self.call.method in self.call.actor.mute

    def value(self) -> Any:
        self.call.run()
        answer = self.call.answer
        if isinstance(answer, Exception):
            raise answer
        return answer if self.part is None else answer[self.part]


class Actor:
    """A worker behind a handle.

    Attributes
    ----------
    dead
        Its process has ended.
    mute
        Methods that never answer; those that the worker names.
    """

    def __init__(self, worker: Any) -> None:
        self.worker, self.dead = worker, False
        self.mute: Sequence[str] = getattr(worker, "mute", ())

    def __getattr__(self, method: str) -> Any:
        def remote(count: int, *arguments: Any) -> Any:
            call = _Call(self, method, arguments)
            parts = [Reference(call, i) for i in range(count)]
            if count == 1:
                return Reference(call, None)
            return parts

        def options(num_returns: int) -> SimpleNamespace:
            return SimpleNamespace(remote=lambda *given: remote(num_returns, *given))

        return SimpleNamespace(remote=lambda *given: remote(1, *given), options=options)


class InlinePool:
    """Workers that come up at once, and again when they are lost.

    Parameters
    ----------
    make
        Makes a worker of a name.
    count
        Number of workers.
    """

    def __init__(self, make: Callable[[str], Any], count: int) -> None:
        self.make, self.count, self.started = make, count, 0
        self.workers: dict[str, WorkerHandle] = {}
        self.refusals: list[Any] = []
        self.grow()

    @property
    def ready(self) -> list[WorkerHandle]:
        return [w for w in self.workers.values() if w.handshake is not None]

    def grow(self) -> None:
        while len(self.workers) < self.count:
            name = f"worker-{self.started}"
            self.started += 1
            self.workers[name] = WorkerHandle(name, Actor(self.make(name)), None)

    def admit(self) -> tuple[list[WorkerHandle], list[Any]]:
        found = [w for w in self.workers.values() if w.handshake is None]
        for worker in found:
            handshake: Any = SimpleNamespace(node="n", processor="p")
            worker.handshake = handshake
        return found, []

    def lost_with(self, worker: WorkerHandle) -> list[WorkerHandle]:
        return [worker]

    def remove(self, worker: WorkerHandle) -> None:
        self.workers.pop(worker.name, None)

    def resize(self) -> None:
        """The cluster stays as it is."""

    def release(self, nodes: Sequence[str]) -> None:
        """No node goes."""


class InlineEngine:
    """The driver's loop on workers of this process.

    Parameters
    ----------
    patch
        Puts `Inline` and `Clock` in the places of `ray` and `time`.
    workers
        How many.
    watch
        Is shown each event.
    make
        Makes a worker, of a job and a name.
    timeouts
        Timeouts of the driver.

    Attributes
    ----------
    seen
        Events.
    """

    name = "ray"

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        workers: int = 2,
        watch: Callable[[Event], None] | None = None,
        make: Callable[[Job, str], Any] = lambda job, name: Worker(job, name, 1),
        timeouts: Timeouts | None = None,
    ) -> None:
        self.workers, self.watch, self.make = workers, watch, make
        self.timeouts = timeouts or Timeouts()
        self.seen: list[Event] = []
        self.clock = Clock()
        self.ray = Inline(self.clock)
        for module in (calls, watch_module):
            patch.setattr(module, "ray", self.ray)
        set_clock(patch, self.clock)
        patch.setattr(watch_module, "draining_nodes", set)

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        yield

    def announce(self, tiles: int) -> str:
        return ""

    def budget(self, asked: int | None) -> int | None:
        return asked

    def metrics(self, job: Job, tally: Tally) -> contextlib.AbstractContextManager[Report]:
        return contextlib.nullcontext(lambda event: None)

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        stages, history = _stages(job, done, self.workers)

        def listen(event: Event) -> None:
            self.seen.append(event)
            report(event)
            if self.watch:
                self.watch(event)

        self.dispatch(job, stages, history, listen)

    def dispatch(
        self, job: Job, stages: Sequence[Work], history: History, report: Report
    ) -> Dispatcher:
        """Run any work; returns the dispatcher."""
        pool: Any = InlinePool(lambda name: self.make(job, name), self.workers)
        made = Dispatcher(job, pool, stages, history, report, Limits(), self.timeouts)
        made.run()
        return made

    @property
    def faults(self) -> list[FaultEvent]:
        return [event for event in self.seen if isinstance(event, FaultEvent)]
