"""Watching a run: heartbeats, workers without progress, nodes about to go, the cluster's size."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import ray
from ray.exceptions import RayError

from ddgm_dist.engine.faults import Fault
from ddgm_dist.ray_engine.calls import CallsInFlight
from ddgm_dist.ray_engine.private_api import draining_nodes
from ddgm_dist.ray_engine.setbacks import Setbacks
from ddgm_dist.tile.events import Event, PoolEvent, Report, SaveEvent, StepEvent
from ddgm_dist.tile.job import Job

__all__ = ["Timeouts", "Watch"]


@dataclass(frozen=True)
class Timeouts:
    """Timeouts and intervals of the driver, seconds.

    Attributes
    ----------
    start
        Without any worker ready, until the run fails.
    stall
        Without progress of a worker, until it is probed; 20 times the longest step of the run so far
        if that is more. After three times as long it is replaced even if it answers. Progress is a
        call that ended, or an iteration that was reported. So a first iteration, with the reading of
        its input, has ``3 * stall`` seconds: a slower one needs a longer ``stall``.
    probe
        Without a heartbeat of a probed worker, until it is replaced.
    heartbeat
        Between heartbeats of workers; longer with more than 20 workers, to bound the driver's work.
    drain
        Between looks at nodes that are about to be removed.
    resize
        Between looks at the cluster's size.
    """

    start: float = 300.0
    stall: float = 300.0
    probe: float = 20.0
    heartbeat: float = 1.0
    drain: float = 2.0
    resize: float = 5.0


class Watch:
    """Takes the heartbeats of workers, and moves work away from those that stall or leave.

    Parameters
    ----------
    job
        Job of the run.
    calls, setbacks
        Calls in flight; what deals with workers that are lost.
    report
        Receives events.
    timeouts
        Times between looks, and time after which a worker has stalled.

    Attributes
    ----------
    longest
        Longest step of the run so far, seconds.
    """

    def __init__(
        self, job: Job, calls: CallsInFlight, setbacks: Setbacks, report: Report, timeouts: Timeouts
    ) -> None:
        self.job, self.calls, self.setbacks = job, calls, setbacks
        self.pool, self.report, self.timeouts = calls.pool, report, timeouts
        self.longest = 0.0
        self._checkpoint_since = time.monotonic()
        self._next = dict.fromkeys(("heartbeat", "drain", "resize"), 0.0)

    def look(self) -> None:
        """Do what is due.

        Raises
        ------
        DdgmError
            Too many workers were lost.
        """
        now = time.monotonic()
        if now - self._checkpoint_since >= self.job.checkpoint_every:
            self.calls.work.checkpoint()
            self._checkpoint_since = now
        if self._is_due("heartbeat", now):
            self.heartbeat()
            self._probe(now)
            self.report_pool()
        if self._is_due("drain", now):
            self._drain()
        if self._is_due("resize", now):
            self.pool.resize()

    def _is_due(self, what: str, now: float) -> bool:
        if now < self._next[what]:
            return False
        factor = max(1.0, len(self.pool.workers) / 20) if what == "heartbeat" else 1.0
        self._next[what] = now + factor * getattr(self.timeouts, what)
        return True

    def report_pool(self) -> None:
        """Report how many workers are ready, and how far coupled tiles have come."""
        least, most = self.calls.work.progress() or (None, None)
        self.report(PoolEvent(len(self.pool.ready), least, most, time.time()))

    def take(self, events: Sequence[Event]) -> None:
        """Take the events of uncoupled tiles; a state that is saved is committed as well."""
        for event in events:
            if isinstance(event, SaveEvent):
                self.setbacks.advanced(self.calls.work.unit(event.tile))
            elif isinstance(event, StepEvent):
                self.longest = max(self.longest, sum(event.seconds.values()))
            self.report(event)

    def heartbeat(self, wait: float = 0.0) -> None:
        """Take the events of running tiles; an answer that is late is taken next time.

        Parameters
        ----------
        wait
            Seconds to wait for the answers of all workers.
        """
        for worker in self.pool.ready:
            if worker.heartbeat_ref is None and any(
                call.task.kind == "run" for call in self.calls.of(worker)
            ):
                worker.heartbeat_ref = worker.actor.heartbeat.remote()
        asked = {w.heartbeat_ref: w for w in self.pool.ready if w.heartbeat_ref is not None}
        if not asked:
            return
        # All at once: one that does not answer delays none of the others.
        answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=wait)
        for ref in answered:
            worker = asked[ref]
            with contextlib.suppress(RayError):  # of a lost worker, whose call fails too
                heartbeat = ray.get(ref)
                if heartbeat.count != worker.event_count:
                    worker.event_count, worker.last_progress = heartbeat.count, time.monotonic()
                    self.setbacks.losses = 0
                self.take(heartbeat.events)
            worker.heartbeat_ref = worker.probed_since = None

    def _probe(self, now: float) -> None:
        """Replace workers that make no progress: soon if they do not answer, later if they do."""
        bound = max(self.timeouts.stall, 20 * self.longest)
        for worker in self.pool.ready:
            idle = now - worker.last_progress
            if not worker.calls or idle < bound:
                continue
            if worker.heartbeat_ref is None:
                worker.heartbeat_ref = worker.actor.heartbeat.remote()
            if worker.probed_since is None:
                worker.probed_since = now
            if now - worker.probed_since > self.timeouts.probe or idle > 3 * bound:
                self.setbacks.stalled(worker, idle)

    def _drain(self) -> None:
        """Move work away from nodes that are about to be removed, and let the nodes go."""
        draining = draining_nodes()
        self.pool.release(draining)
        for worker in self.pool.ready:
            if worker.handshake is None or worker.handshake.node not in draining:
                continue
            if not worker.draining:
                worker.draining = True
                worker.actor.drain.remote()
                node = worker.handshake.node
                self.setbacks.report_fault("draining", worker.name, "", "move its work", node)
            if self.calls.work.drain(worker.name) and not worker.calls:
                self.setbacks.lose(worker, Fault.PREEMPTED)
