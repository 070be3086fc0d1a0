"""Faults and retries: carries out what :mod:`ddgm_dist.engine.faults` decides, and keeps count."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ray.exceptions import GetTimeoutError, RayTaskError

from ddgm_dist.engine.faults import Action, Decision, Fault, Limits, RetryHistory, decide
from ddgm_dist.errors import DdgmError
from ddgm_dist.ray_engine.calls import Call, CallsInFlight
from ddgm_dist.ray_engine.errors import fault_of, last_line
from ddgm_dist.ray_engine.pool import WorkerHandle
from ddgm_dist.records.checkpoint import CheckpointDamagedError
from ddgm_dist.tile.events import FaultEvent, Report
from ddgm_dist.tile.history import History

__all__ = ["Setbacks"]


@dataclass
class _UnitCost:
    """Cost of faults for a unit since its last checkpoint.

    Attributes
    ----------
    losses
        Workers lost, by tile.
    rollbacks
        Times that the unit went back.
    """

    losses: Counter[str] = field(default_factory=Counter)
    rollbacks: int = 0


class Setbacks:
    """Deals with calls that fail, and with workers that are lost or stalled.

    Parameters
    ----------
    calls, history
        Calls in flight, and checkpoints.
    report
        Receives fault events.
    limits
        Faults after which the run gives up.

    Attributes
    ----------
    losses
        Workers lost in a row; whoever sees progress sets it to zero.
    """

    def __init__(
        self, calls: CallsInFlight, history: History, report: Report, limits: Limits
    ) -> None:
        self.calls, self.pool, self.history = calls, calls.pool, history
        self.report, self.limits = report, limits
        self.losses = 0
        self._throttled_since, self._spilled = math.inf, False
        self._costs: dict[str, _UnitCost] = {}  # by unit
        self._delayed: list[tuple[float, Callable[[], None]]] = []

    def report_fault(self, fault: str, worker: str, tile: str, action: str, detail: str) -> None:
        """Report a fault and what is done about it; the detail is made one line."""
        detail = " ".join(detail.split())
        self.report(FaultEvent(str(fault), worker, tile, str(action), detail, time.time()))

    def advanced(self, unit: str, tile: str = "") -> None:
        """A unit has a new checkpoint, or a tile of it is written: no fault takes that away.

        What other tiles have cost stays booked. A tile that ends its workers is given up, whatever
        the rest of the run achieves.
        """
        if not tile:
            self._costs.pop(unit, None)
        elif unit in self._costs:
            self._costs[unit].losses.pop(tile, None)
            self._costs[unit].rollbacks = 0

    # -- calls that fail -------------------------------------------------------------------------

    def failed(self, call: Call, error: Exception) -> None:
        """Deal with a call that raised, or whose worker is gone.

        Raises
        ------
        DdgmError
            The run cannot continue; finished and committed work is kept.
        """
        if call.is_stale and isinstance(error, RayTaskError):
            self.calls.discard(call)
            return
        fault = fault_of(error)
        decision = decide(fault, self._history_of(call), self.limits)
        self.report_fault(fault, call.worker.name, call.tile, decision.action, last_line(error))
        match decision.action:
            case Action.FAIL:
                step = f", iteration {call.task.n}" if call.task.kind == "step" else ""
                raise _failure(error, fault, call.tile + step, decision)
            case Action.REDO | Action.RESUBMIT:
                call.attempts += 1
                if decision.action is Action.REDO and call.task.kind in ("run", "combine"):
                    # It may have failed after the tile was written.
                    call.task = replace(call.task, retried=True)
                self._after(decision.delay, lambda: self._repeat(call))
            case Action.ROLL_BACK:
                cause = getattr(error, "cause", None)
                if isinstance(cause, CheckpointDamagedError):
                    self.history.damaged(cause)
                self._after(decision.delay, lambda: self._roll_back(call))
            case Action.SPILL:
                self._spilled = True
                call.work.spill_to_store()
                call.requeue()  # an uncoupled tile's call; a group's has become stale
            case Action.REPLACE | Action.THROTTLE:
                if decision.action is Action.THROTTLE:
                    self.calls.depth = 1
                    self._throttled_since = min(self._throttled_since, time.monotonic())
                self.lose(call.worker, fault, call)

    def run_delayed(self, now: float) -> None:
        """Do what was put off until now."""
        if not self._delayed:
            return
        due = [action for when, action in self._delayed if when <= now]
        self._delayed = [(when, action) for when, action in self._delayed if when > now]
        for action in due:
            action()

    def _after(self, delay: float, action: Callable[[], None]) -> None:
        self._delayed.append((time.monotonic() + delay, action))

    def _repeat(self, call: Call) -> None:
        """Make a call again: on the same worker, which may have done it already, or on any."""
        if call.worker.name in self.pool.workers and not call.is_stale:
            self.calls.send(call)
        else:
            call.requeue()

    def _roll_back(self, call: Call) -> None:
        """Take a unit back to its last checkpoint: once, however many calls have failed for that."""
        if not call.is_stale:
            self._cost(call).rollbacks += 1
            call.work.roll_back(call.task)

    def _cost(self, call: Call) -> _UnitCost:
        return self._costs.setdefault(call.work.unit(call.tile), _UnitCost())

    def _history_of(self, call: Call) -> RetryHistory:
        cost = self._costs.get(call.work.unit(call.tile), _UnitCost())
        return RetryHistory(
            losses=self.losses,
            tile_losses=cost.losses[call.tile],
            attempts=call.attempts,
            rollbacks=cost.rollbacks,
            # A call sent before may still run out of memory beside another one.
            throttled=call.since > self._throttled_since,
            spilled=self._spilled,
            admitted=True,
        )

    # -- workers that are lost -------------------------------------------------------------------

    def stalled(self, worker: WorkerHandle, idle: float) -> None:
        """Replace a worker that has calls and has not progressed for so many seconds."""
        call, *_ = self.calls.of(worker)
        error = GetTimeoutError(f"{worker.name} has not progressed for {idle:.0f} s")
        self.failed(call, error)

    def lose(self, worker: WorkerHandle, fault: Fault, call: Call | None = None) -> None:
        """Remove a worker and start a new one; others redo what it held.

        A node that is gone takes all its workers along. They are lost together, so that groups go
        back once, and so that those are found which have no call in flight.

        Parameters
        ----------
        worker, fault
            The worker, and how it was lost.
        call
            The call that failed with it; None if there is none.
        """
        if worker.name not in self.pool.workers:
            if call is not None:
                call.requeue()
            return
        gone = self.pool.lost_with(worker)
        undone = [other for other in self.calls.withdraw(gone) if other is not call]
        for other in gone:
            self.pool.remove(other)
            if other is not worker:
                detail = f"lost with the node of {worker.name}"
                self.report_fault(fault, other.name, "", Action.REPLACE, detail)
        announced = fault is Fault.PREEMPTED
        if not announced:
            self.losses += 1
            if call is not None:
                self._cost(call).losses[call.tile] += 1
        self.calls.work.lost([w.name for w in gone])
        for one in undone:
            one.requeue()
        if call is not None:
            call.requeue(last=not announced)
        self.pool.grow()
        self.calls.set_workers()


def _failure(error: Exception, fault: Fault, where: str, decision: Decision) -> Exception:
    """The error that the run ends with."""
    cause = getattr(error, "cause", None)
    if fault in (Fault.INPUT, Fault.STORAGE) and isinstance(cause, DdgmError):
        return cause
    if fault is Fault.BUG:
        return DdgmError(f"{where}: {error}")
    advice = f"; {decision.advice}" if decision.advice else ""
    return DdgmError(f"{where}: {fault}: {last_line(error)}{advice}")
