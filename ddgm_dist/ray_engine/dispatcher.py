"""The driver's loop: hands calls to actors, takes answers, and deals with what goes wrong.

It knows when; `work` knows what, `faults` what follows from a fault, `ray_pool` who. Calls are kept
short in number (two per actor): that is the backpressure.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from ddgm_dist.engine.faults import Action, Decision, Fault, Limits, RetryHistory, decide
from ddgm_dist.engine.processors import mixture
from ddgm_dist.engine.work import Task, Work
from ddgm_dist.errors import DdgmError, StorageError
from ddgm_dist.ray_engine.errors import fault_of, last_line
from ddgm_dist.ray_engine.pool import Pool, Refusal, WorkerHandle
from ddgm_dist.ray_engine.private_api import draining_nodes
from ddgm_dist.records.checkpoint import CheckpointDamagedError, Generation
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.tile.events import (
    Event,
    FaultEvent,
    PoolEvent,
    Receipt,
    Report,
    SaveEvent,
    StepEvent,
)
from ddgm_dist.tile.history import History
from ddgm_dist.tile.job import Job
from ddgm_dist.tile.solver import Paused, Stepped

__all__ = ["Dispatcher", "Timeouts"]


@dataclass(frozen=True)
class Timeouts:
    """Times of the driver, seconds.

    Attributes
    ----------
    start
        Without any worker ready, until the run fails.
    stall
        Without a worker's progress, until it is probed (twenty times the longest step so far, of
        any tile and worker, if that is more); three times as long, until it is replaced even if it
        gives signs of life. Progress is a call that ended or an iteration that was told. So while no
        iteration of a run has been told, the bound for a worker that answers is ``3 * stall``: a
        first iteration, with the reading of its input, that takes longer than that is given up, and
        needs a longer ``stall``. From then on, it is sixty times the longest.
    probe
        Without a sign of life once it is probed, until it is replaced.
    pulse, drain, resize
        Between looks at running tiles (longer with more than twenty workers, so that the looks cost
        the driver no more), at nodes about to go, at the cluster's size.
    """

    start: float = 300.0
    stall: float = 300.0
    probe: float = 20.0
    pulse: float = 1.0
    drain: float = 2.0
    resize: float = 5.0


@dataclass(eq=False)
class _Call:
    """A call in flight."""

    member: WorkerHandle
    task: Task
    mail: tuple[Any, ...]
    pieces: list[Any] = field(default_factory=list)
    attempts: int = 0
    since: float = field(default_factory=time.monotonic)


@dataclass
class _Setbacks:
    """What a unit has cost since anything of it was last brought to where no fault takes it away.

    Attributes
    ----------
    losses
        Workers lost, by tile.
    rollbacks
        Times that it went back.
    """

    losses: Counter[str] = field(default_factory=Counter)
    rollbacks: int = 0


class Dispatcher:
    """Runs a job's work on a pool.

    Parameters
    ----------
    job, pool, work, history
        What; who; the order; where commits are kept.
    report
        Takes events.
    limits, patience
        When to give up; times.

    Attributes
    ----------
    own_seconds
        Time the loop spent on its own work, not waiting.
    steps
        Calls that ended well.
    """

    def __init__(
        self,
        job: Job,
        pool: Pool,
        work: Work,
        history: History,
        report: Report,
        limits: Limits,
        patience: Timeouts,
    ) -> None:
        self.job, self.pool, self.work, self.history = job, pool, work, history
        self.report, self.limits, self.patience = report, limits, patience
        self.own_seconds, self.steps = 0.0, 0
        self._calls: dict[Any, _Call] = {}
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._depth, self._lightened = 2, math.inf
        self._streamed = False
        self._losses = 0
        self._setbacks: dict[str, _Setbacks] = {}  # by unit
        self._longest = 0.0
        # By kind, the first worker of it that was admitted.
        self._processors: dict[str, str] = {}
        self._idle_since = time.monotonic()
        self._saved = time.monotonic()
        self._next = dict.fromkeys(("pulse", "drain", "resize"), 0.0)

    def run(self) -> None:
        """Until nothing is left.

        Raises
        ------
        DdgmError
            The run cannot go on; what is finished or committed is kept.
        """
        while not self.work.finished:
            began = time.perf_counter()
            self._keep_house()
            self._submit()
            refs = list(self._calls)
            self.own_seconds += time.perf_counter() - began
            if refs:
                ready, _ = ray.wait(refs, num_returns=1, timeout=0.2, fetch_local=False)
            else:
                ready = []
                time.sleep(0.02)
            began = time.perf_counter()
            if ready and len(refs) > 1:
                ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
            for ref in ready:
                if ref in self._calls:
                    self._collect(ref)
            self._commit()
            self.own_seconds += time.perf_counter() - began
        self._pulse(wait=10.0)

    # -- calls -----------------------------------------------------------------------------------

    def _submit(self) -> None:
        """Give each worker a call, then a second one to read ahead."""
        for depth in range(1, self._depth + 1):
            for member in self.pool.ready:
                if len(member.calls) >= depth:
                    continue
                found = self.work.next(member.name, ahead=depth > 1)
                if found is not None:
                    if not member.calls:
                        member.mark = time.monotonic()
                    self._call(_Call(member, *found))

    def _call(self, call: _Call) -> None:
        actor, task = call.member.actor, call.task
        if task.kind == "run":
            refs = [actor.run.remote(task)]
        elif task.kind == "combine":
            refs = [actor.combine.remote(task)]
        elif task.kind == "finish":
            refs = [actor.finish.remote(task, *call.mail)]
        else:
            count = 1 + len(task.receivers)
            made = actor.step.options(num_returns=count).remote(task, *call.mail)
            refs = [made] if count == 1 else made
        call.pieces = refs[1:]
        call.since = time.monotonic()
        self._calls[refs[0]] = call
        call.member.calls.append(refs[0])

    def _collect(self, ref: Any) -> None:
        call = self._calls.pop(ref)
        call.member.calls.remove(ref)
        try:
            answer: Any = ray.get(ref)
        except (RayError, DdgmError) as error:
            self._commit()  # what is whole is committed first: it is where work goes on
            self._failed(call, error)
            return
        now = time.monotonic()
        call.member.mark = now
        if call.task.kind != "run":
            self._longest = max(self._longest, now - call.since)
        self._losses = 0
        outcome: Receipt | Paused | Stepped
        outcome, events = answer if isinstance(answer, tuple) else (answer, [])
        if isinstance(outcome, Stepped):
            for event in outcome.events:
                self.report(event)
        else:
            self._hear(events)
        if isinstance(outcome, Receipt):
            self._advanced(self.work.unit(outcome.tile), outcome.tile)
            self.report(outcome)
        if self.work.void(call.task):
            self.work.late(call.member.name, call.task)
            return
        if isinstance(outcome, Paused):
            self.work.again(call.task)
            return
        self.steps += 1
        digests = outcome.digests if isinstance(outcome, Stepped) else {}
        self.work.done(call.task, digests, call.pieces)

    def _hear(self, events: Sequence[Event]) -> None:
        """What uncoupled tiles tell while they run; a state that is saved is committed as well."""
        for event in events:
            if isinstance(event, SaveEvent):
                self._advanced(self.work.unit(event.tile))
            elif isinstance(event, StepEvent):
                self._longest = max(self._longest, sum(event.seconds.values()))
            self.report(event)

    def _commit(self) -> None:
        for unit, generation in self.work.commits():
            self._record(unit, generation)
            self.work.committed(unit, generation)
            self._advanced(unit)
        for name, tiles in self.work.drops():
            if name in self.pool.members:
                self.pool.members[name].actor.drop.remote(tiles)

    def _record(self, unit: str, generation: Generation) -> None:
        """Commit a generation; again, after a while, if the store stumbles.

        Nothing else is done meanwhile: commits have an order, and faults go back to the last one.
        """
        attempts = 0
        while True:
            # The one before may have taken long. Who listens may know that another driver has taken
            # over, and raises then.
            self._tell_pool()
            try:
                return self.history.commit(unit, generation)
            except StorageError as error:
                decision = decide(Fault.STORAGE, RetryHistory(attempts=attempts), self.limits)
                self._tell(Fault.STORAGE, "", "", decision.action, last_line(error))
                if decision.action is Action.FAIL:
                    raise
                attempts += 1
                time.sleep(decision.delay)

    # -- faults ----------------------------------------------------------------------------------

    def _failed(self, call: _Call, error: Exception) -> None:
        """A call raised, or its worker is gone."""
        fault, tile = fault_of(error), call.task.tile.name
        if self.work.void(call.task) and isinstance(error, RayTaskError):
            self.work.late(call.member.name, call.task)
            return  # of a step that had been given up
        decision = decide(fault, self._past(call), self.limits)
        self._tell(fault, call.member.name, tile, decision.action, last_line(error))
        where = f"{tile}, iteration {call.task.n}" if call.task.kind == "step" else tile
        match decision.action:
            case Action.FAIL:
                raise _failure(error, fault, where, decision)
            case Action.REDO:
                self._after(decision.delay, lambda: self._repeat(call))
            case Action.RESUBMIT:
                call.attempts += 1
                self._after(decision.delay, lambda: self._resubmit(call))
            case Action.ROLL_BACK:
                cause = getattr(error, "cause", None)
                if isinstance(cause, CheckpointDamagedError):
                    self.history.damaged(cause)
                self._after(decision.delay, lambda: self._roll_back(call.task))
            case Action.STREAM:
                self._streamed = True
                self.work.stream()
                self.work.again(call.task)  # an uncoupled tile's; a group has begun anew
            case Action.REPLACE | Action.LIGHTEN:
                if decision.action is Action.LIGHTEN:
                    self._depth, self._lightened = 1, min(self._lightened, time.monotonic())
                self._lose(call.member, fault, call)

    def _roll_back(self, task: Task) -> None:
        """Go back to the last checkpoint: once, however many calls have told that it must be."""
        if not self.work.void(task):
            self._setbacks_of(task.tile.name).rollbacks += 1
            self.work.roll_back(task)

    def _setbacks_of(self, tile: str) -> _Setbacks:
        return self._setbacks.setdefault(self.work.unit(tile), _Setbacks())

    def _advanced(self, unit: str, tile: str = "") -> None:
        """A checkpoint of a unit is committed, or a tile of it is written: no fault takes that away.

        What others have cost is not forgotten: a tile that kills its workers is to be given up
        whatever the rest of the run comes to.
        """
        if not tile:
            self._setbacks.pop(unit, None)
        elif unit in self._setbacks:
            self._setbacks[unit].losses.pop(tile, None)
            self._setbacks[unit].rollbacks = 0

    def _past(self, call: _Call) -> RetryHistory:
        setbacks = self._setbacks.get(self.work.unit(call.task.tile.name), _Setbacks())
        return RetryHistory(
            losses=self._losses,
            tile_losses=setbacks.losses[call.task.tile.name],
            attempts=call.attempts,
            rollbacks=setbacks.rollbacks,
            admitted=True,
            light=call.since > self._lightened,  # a call made before may yet run out as well
            streamed=self._streamed,
        )

    def _repeat(self, call: _Call) -> None:
        """Let any worker do a call again, keeping count of how often."""
        call.attempts += 1
        if call.task.kind in ("run", "combine"):  # it may have failed after the tile was written
            call.task = replace(call.task, retried=True)
        if call.member.name in self.pool.members and not self.work.void(call.task):
            self._call(call)
        else:
            self.work.again(call.task)

    def _resubmit(self, call: _Call) -> None:
        """Ask the same worker again; the call may have been done, which it then tells."""
        if call.member.name not in self.pool.members:
            self.work.again(call.task)
        elif not self.work.void(call.task):
            self._call(call)

    def _lose(self, member: WorkerHandle, fault: Fault, call: _Call | None) -> None:
        """A worker is gone: others redo what it held, and a new one is started.

        A node that is gone takes all its workers along. They are lost together, so that groups go
        back once, and also those that nobody would have missed before the next call.
        """
        if member.name not in self.pool.members:
            if call is not None:
                self.work.again(call.task)
            return
        gone = self.pool.gone_with(member)
        lost = [self._calls.pop(ref) for m in gone for ref in m.calls if ref in self._calls]
        for other in gone:
            other.calls.clear()
            self.pool.remove(other)
            if other is not member:
                self._tell(fault, other.name, "", Action.REPLACE, f"gone with {member.name}'s node")
        if fault is not Fault.PREEMPTED:
            self._losses += 1
            if call is not None:
                name = call.task.tile.name
                self._setbacks_of(name).losses[name] += 1
        self.work.lost([m.name for m in gone])
        for undone in lost:
            self.work.again(undone.task)
        if call is not None:
            self.work.again(call.task, last=fault is not Fault.PREEMPTED)
        self.pool.grow()
        self._assign()

    def _assign(self) -> None:
        names = [m.name for m in self.pool.ready]
        if names:
            self.work.assign(names)

    def _after(self, delay: float, action: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + delay, action))

    def _tell(self, kind: str, worker: str, tile: str, action: str, detail: str) -> None:
        self.report(
            FaultEvent(str(kind), worker, tile, str(action), " ".join(detail.split()), time.time())
        )

    def _tell_pool(self) -> None:
        least, most = self.work.progress() or (None, None)
        self.report(PoolEvent(len(self.pool.ready), least, most, time.time()))

    # -- housekeeping ----------------------------------------------------------------------------

    def _keep_house(self) -> None:
        now = time.monotonic()
        due, self._later = (
            [x for x in self._later if x[0] <= now],
            [x for x in self._later if x[0] > now],
        )
        for _, action in due:
            action()
        self._admit(now)
        if now - self._saved >= self.job.checkpoint_every:
            self.work.checkpoint()
            self._saved = now
        if self._is_due("pulse", now):
            self._pulse()
            self._probe(now)
            self._tell_pool()
        if self._is_due("drain", now):
            self._drain()
        if self._is_due("resize", now):
            self.pool.resize()

    def _is_due(self, what: str, now: float) -> bool:
        if now < self._next[what]:
            return False
        often = max(1.0, len(self.pool.members) / 20) if what == "pulse" else 1.0
        self._next[what] = now + often * getattr(self.patience, what)
        return True

    def _admit(self, now: float) -> None:
        """Let workers that have come up take part, if they are fit for it."""
        joined, refusals = self.pool.admit()
        lost = [r for r in refusals if r.fault not in (Fault.START, Fault.VERSIONS)]
        for refusal in refusals:
            if refusal not in lost:
                self._refuse(refusal)
        if lost:
            self._losses += 1  # at once: their node is gone
            if self._losses > self.limits.losses:
                raise DdgmError(f"starting a worker: {lost[0].fault}: {lost[0].why}")
            for refusal in lost:
                self.pool.remove(refusal.member)
        if refusals:
            self.pool.grow()
        if joined:
            self._compare(joined)
            self._assign()
        if self.pool.ready:
            self._idle_since = now
        elif now - self._idle_since > self.patience.start:
            raise DdgmError(
                f"no worker has started for {self.patience.start:.0f} s: each asks for "
                f"{self.pool.shares.cpus:g} CPU, {self.pool.shares.gpus:g} GPU, "
                f"{self.pool.shares.memory} bytes; `ray status` tells what the cluster has; "
                + "".join(f"refused: {r.told}; " for r in self.pool.refused[:8])
                + "run the same command again to go on"
            )

    def _refuse(self, refusal: Refusal) -> None:
        """Go on without a worker that is unfit, unless all may be: then nothing was done yet."""
        past = RetryHistory(admitted=bool(self._processors))
        decision = decide(refusal.fault, past, self.limits)
        if decision.action is not Action.FAIL:
            if self.pool.refuse(refusal):  # once per node, not for each worker there
                name = refusal.member.name
                self._tell(refusal.fault, name, "", decision.action, refusal.told)
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

    def _compare(self, joined: list[WorkerHandle]) -> None:
        """Tell when workers of a second kind of processor take part: the bits are then by chance."""
        found = {m.hello.processor: m.hello.node[:8] for m in joined if m.hello is not None}
        new = {kind: node for kind, node in found.items() if kind not in self._processors}
        self._processors |= new
        record = RunRecord(self.job.out)
        event = mixture(record, self.job.digest, new, joined[0].name) if new else None
        if event is not None:
            self.report(event)

    def _pulse(self, wait: float = 0.0) -> None:
        """Take the events of running tiles; an answer that is late is taken next time."""
        for member in self.pool.ready:
            if member.pulse is None and any(
                self._calls[ref].task.kind == "run" for ref in member.calls if ref in self._calls
            ):
                member.pulse = member.actor.pulse.remote()
        asked = {m.pulse: m for m in self.pool.ready if m.pulse is not None}
        if not asked:
            return
        # All at once: one that does not answer keeps nobody waiting for the others.
        answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=wait)
        for ref in answered:
            member = asked[ref]
            with contextlib.suppress(RayError):  # a lost worker: its call tells
                pulse = ray.get(ref)
                if pulse.count != member.count:
                    member.count, member.mark = pulse.count, time.monotonic()
                    self._losses = 0
                self._hear(pulse.events)
            member.pulse = member.probed = None

    def _probe(self, now: float) -> None:
        """Replace workers that do not progress: soon if they give no sign of life, else later."""
        bound = max(self.patience.stall, 20 * self._longest)
        for member in self.pool.ready:
            idle = now - member.mark
            if not member.calls or idle < bound:
                continue
            if member.pulse is None:
                member.pulse = member.actor.pulse.remote()
            if member.probed is None:
                member.probed = now
            if now - member.probed > self.patience.probe or idle > 3 * bound:
                self._give_up(member, idle)

    def _give_up(self, member: WorkerHandle, idle: float) -> None:
        call = next((self._calls[ref] for ref in member.calls if ref in self._calls), None)
        tile = call.task.tile.name if call else ""
        error = TimeoutError(f"{member.name} has not progressed for {idle:.0f} s")
        decision = decide(Fault.STALLED, self._past(call) if call else RetryHistory(), self.limits)
        self._tell(Fault.STALLED, member.name, tile, decision.action, str(error))
        if decision.action is Action.FAIL:
            raise _failure(error, Fault.STALLED, tile, decision)
        self._calls = {ref: c for ref, c in self._calls.items() if c is not call}
        self._lose(member, Fault.STALLED, call)

    def _drain(self) -> None:
        """Move work away from nodes that are about to go, and let the nodes go."""
        draining = draining_nodes()
        self.pool.release(draining)
        for member in self.pool.ready:
            if member.hello is None or member.hello.node not in draining:
                continue
            if not member.leaving:
                member.leaving = True
                member.actor.leave.remote()
                self._tell("draining", member.name, "", "move its work", member.hello.node)
            if self.work.evacuate(member.name) and not member.calls:
                self._lose(member, Fault.PREEMPTED, None)


def _failure(error: Exception, fault: Fault, where: str, decision: Decision) -> Exception:
    """What the run ends with."""
    cause = getattr(error, "cause", None)
    if fault in (Fault.INPUT, Fault.STORAGE) and isinstance(cause, DdgmError):
        return cause
    advice = f"; {decision.advice}" if decision.advice else ""
    if fault is Fault.BUG:
        return DdgmError(f"{where}: {error}")
    return DdgmError(f"{where}: {fault}: {last_line(error)}{advice}")
