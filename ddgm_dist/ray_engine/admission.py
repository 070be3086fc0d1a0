"""Worker admission: workers that have come up take calls if they are fit, and are refused otherwise."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ddgm_dist.engine.faults import Action, Fault, RetryHistory, decide
from ddgm_dist.engine.processors import mixture
from ddgm_dist.errors import DdgmError
from ddgm_dist.ray_engine.calls import CallsInFlight
from ddgm_dist.ray_engine.pool import Refusal, WorkerHandle
from ddgm_dist.ray_engine.setbacks import Setbacks
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.tile.events import Report
from ddgm_dist.tile.job import Job

__all__ = ["Admission"]


class Admission:
    """Lets workers that have come up take calls, if they are fit.

    A first worker that is unfit ends the run: all may be, and nothing was done yet. Later ones are
    refused alone.

    Parameters
    ----------
    job
        Job of the run.
    calls, setbacks
        Calls in flight; what counts the workers that are lost.
    report
        Receives events.
    timeout
        Seconds without any worker ready, until the run fails.
    """

    def __init__(
        self, job: Job, calls: CallsInFlight, setbacks: Setbacks, report: Report, timeout: float
    ) -> None:
        self.job, self.calls, self.pool, self.setbacks = job, calls, calls.pool, setbacks
        self.report, self.timeout = report, timeout
        self._processors: set[str] = set()  # kinds of the workers that were admitted
        self._ready_since = time.monotonic()

    def admit(self) -> None:
        """Let workers that have come up since the last call take part.

        Raises
        ------
        DdgmError
            The first worker is unfit, none has started in time, or too many were lost.
        """
        joined, refusals = self.pool.admit()
        self._refuse(refusals)
        if joined:
            self._compare_processors(joined)
            self.calls.set_workers()
        now = time.monotonic()
        if self.pool.ready:
            self._ready_since = now
        elif now - self._ready_since > self.timeout:
            shares, refused = self.pool.shares, {r.place: r for r in self.pool.refusals}
            raise DdgmError(
                f"no worker has started for {self.timeout:.0f} s: each asks for "
                f"{shares.cpus:g} CPU, {shares.gpus:g} GPU, {shares.memory} bytes; `ray status` "
                "shows what the cluster has; "
                + "".join(f"refused: {r.message}; " for r in list(refused.values())[:8])
                + "run the same command again to resume"
            )

    def _refuse(self, refusals: Sequence[Refusal]) -> None:
        """Continue without workers that are unfit; start others for those that were lost."""
        lost = [r for r in refusals if r.fault not in (Fault.START, Fault.VERSIONS)]
        for refusal in refusals:
            if refusal not in lost:
                self._refuse_unfit(refusal)
        if lost:
            self.setbacks.losses += 1  # lost together, with their node
            if self.setbacks.losses > self.setbacks.limits.losses:
                raise DdgmError(f"starting a worker: {lost[0].fault}: {lost[0].why}")
            for refusal in lost:
                self.pool.remove(refusal.worker)
        if refusals:
            self.pool.grow()

    def _refuse_unfit(self, refusal: Refusal) -> None:
        history = RetryHistory(admitted=bool(self._processors))
        decision = decide(refusal.fault, history, self.setbacks.limits)
        if decision.action is not Action.FAIL:
            if self.pool.refuse(refusal):  # reported once per node, not for each worker there
                self.setbacks.report_fault(
                    refusal.fault, refusal.worker.name, "", decision.action, refusal.message
                )
        elif refusal.fault is Fault.VERSIONS:
            raise DdgmError(
                f"the workers on node {refusal.node[:8]} have other versions than the driver: "
                f"{refusal.why}; install the same on every node, or results would differ"
            )
        else:
            raise DdgmError(
                f"a worker could not start: {refusal.why}; is the same environment, with "
                "ddgm-dist in it, on every node?"
            )

    def _compare_processors(self, joined: Sequence[WorkerHandle]) -> None:
        """Report workers of another kind of processor: the bits then depend on who computes what."""
        found = {w.handshake.processor: w.handshake.node[:8] for w in joined if w.handshake}
        new = {kind: node for kind, node in found.items() if kind not in self._processors}
        self._processors |= new.keys()
        record = RunRecord(self.job.out)
        event = mixture(record, self.job.digest, new, joined[0].name) if new else None
        if event is not None:
            self.report(event)
