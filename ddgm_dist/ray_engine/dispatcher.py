"""The driver's loop: makes calls, takes answers, commits checkpoints.

:mod:`ddgm_dist.engine.work` says what there is to do. `CallsInFlight` has the calls, `Admission` lets
workers in, `Watch` looks after them, and `Setbacks` deals with what fails.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ddgm_dist.engine.faults import Action, Fault, Limits, RetryHistory, decide
from ddgm_dist.engine.work import Work
from ddgm_dist.errors import StorageError
from ddgm_dist.ray_engine.admission import Admission
from ddgm_dist.ray_engine.calls import Call, CallsInFlight
from ddgm_dist.ray_engine.errors import last_line
from ddgm_dist.ray_engine.pool import Pool
from ddgm_dist.ray_engine.setbacks import Setbacks
from ddgm_dist.ray_engine.watch import Timeouts, Watch
from ddgm_dist.records.checkpoint import Generation
from ddgm_dist.tile.events import Receipt, Report
from ddgm_dist.tile.history import History
from ddgm_dist.tile.job import Job
from ddgm_dist.tile.solver import Paused, Stepped

__all__ = ["Dispatcher"]


class Dispatcher:
    """Runs a job's work on a pool.

    Parameters
    ----------
    job, pool
        Job of the run, and its workers.
    stages
        Work to be done in this order: each begins when the one before is finished.
    history
        History to which checkpoints are committed.
    report
        Receives events.
    limits, timeouts
        Faults after which the run gives up; times to wait.

    Attributes
    ----------
    own_seconds
        Time that the loop spent on its own work, not waiting.
    """

    def __init__(
        self,
        job: Job,
        pool: Pool,
        stages: Sequence[Work],
        history: History,
        report: Report,
        limits: Limits,
        timeouts: Timeouts,
    ) -> None:
        self.pool, self.stages, self.history, self.report = pool, stages, history, report
        self.calls = CallsInFlight(pool, stages[0])
        self.setbacks = Setbacks(self.calls, history, report, limits)
        self.admission = Admission(job, self.calls, self.setbacks, report, timeouts.start)
        self.watch = Watch(job, self.calls, self.setbacks, report, timeouts)
        self.own_seconds = 0.0

    def run(self) -> None:
        """Compute until nothing is left.

        Raises
        ------
        DdgmError
            The run cannot continue; finished and committed work is kept.
        """
        for work in self.stages:
            self.calls.begin(work)
            while not work.finished:
                began = time.perf_counter()
                self.setbacks.run_delayed(time.monotonic())
                self.admission.admit()
                self.watch.look()
                self.calls.submit()
                self.own_seconds += time.perf_counter() - began
                answered = self.calls.wait()
                began = time.perf_counter()
                if answered:
                    for call, answer in self.calls.collect():
                        self._ended(call, answer)
                self._commit(work)
                self.own_seconds += time.perf_counter() - began
        self.watch.heartbeat(wait=10.0)

    def _ended(self, call: Call, answer: Any) -> None:
        """Book the answer of a call, or deal with its error."""
        if isinstance(answer, Exception):
            self._commit(call.work)  # a whole checkpoint is committed first: work continues from it
            self.setbacks.failed(call, answer)
            return
        now = time.monotonic()
        call.worker.last_progress = now
        self.setbacks.losses = 0
        if call.task.kind != "run":
            self.watch.longest = max(self.watch.longest, now - call.since)
        outcome: Receipt | Paused | Stepped
        outcome, events = answer if isinstance(answer, tuple) else (answer, [])
        digests: dict[str, str] = {}
        if isinstance(outcome, Stepped):
            digests = outcome.digests
            for event in outcome.events:
                self.report(event)
        else:
            self.watch.take(events)
        if isinstance(outcome, Receipt):
            self.setbacks.advanced(call.work.unit(outcome.tile), outcome.tile)
            self.report(outcome)
        if call.is_stale:
            self.calls.discard(call)
        elif isinstance(outcome, Paused):
            call.requeue()
        else:
            call.work.done(call.task, digests, call.outputs)

    def _commit(self, work: Work) -> None:
        """Commit the checkpoints that are whole, and let workers forget what nobody needs."""
        for unit, generation in work.commits():
            self._write_commit(unit, generation)
            work.committed(unit, generation)
            self.setbacks.advanced(unit)
        self.calls.drop_states(work)

    def _write_commit(self, unit: str, generation: Generation) -> None:
        """Commit a generation; try again after a while if the store fails.

        Nothing else is done meanwhile: commits have an order, and faults go back to the last one.
        """
        attempts = 0
        while True:
            # The commit before may have taken long. If another driver has taken over by now,
            # whoever receives this event may know it, and raises.
            self.watch.report_pool()
            try:
                return self.history.commit(unit, generation)
            except StorageError as error:
                decision = decide(
                    Fault.STORAGE, RetryHistory(attempts=attempts), self.setbacks.limits
                )
                self.setbacks.report_fault(Fault.STORAGE, "", "", decision.action, last_line(error))
                if decision.action is Action.FAIL:
                    raise
                attempts += 1
                time.sleep(decision.delay)
