"""The fault policy: a pure function from a fault and the faults before to an action.

An engine says which `Fault` an error is; `decide` says what follows. Steps are functions of
addresses and the problem fixes every generation, so doing work again is always safe. The policy is
about losing little time, and about ending a run that cannot succeed with advice instead of a loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Action", "Decision", "Fault", "Limits", "RetryHistory", "decide"]


class Fault(StrEnum):
    """Kind of failure of a call or a worker."""

    BUG = "bug"  # the code raised: the same again would follow
    INPUT = "input"  # one of our own errors: the message is for the user
    STORAGE = "storage"  # a read or write failed
    START = "start-failed"  # a worker cannot compute: it lacks something that others have
    VERSIONS = "other-versions"  # a worker has other packages than the driver
    LOST = "worker-lost"  # its process ended
    PREEMPTED = "preempted"  # its node was taken away as announced
    UNAVAILABLE = "unavailable"  # no answer: the call may or may not have run
    OBJECT_LOST = "object-lost"  # a piece is gone with its node
    OUT_OF_MEMORY = "out-of-memory"  # the node ran out, a worker was ended
    STORE_FULL = "store-full"  # the object store holds no more pieces
    STALLED = "stalled"  # no progress and no heartbeat
    STALE = "stale"  # a worker no longer holds a state that a step needs
    CHECKPOINT_DAMAGED = "checkpoint-damaged"  # a chunk is missing or not what was written


class Action(StrEnum):
    """Action after a fault; its value is shown to the user."""

    FAIL = "fail"
    REDO = "redo"  # the same call again, by any worker
    RESUBMIT = "ask the same worker again"  # it may have done the call already
    REPLACE = "replace the worker"  # and redo what it held
    ROLL_BACK = "roll back"  # the group goes back to its last checkpoint
    THROTTLE = "one call per worker at a time"  # from now on, and replace the worker
    REFUSE = "continue without it"  # the worker gets no call
    SPILL = "pass pieces through the store"  # roll back, and use no object store from now on


@dataclass(frozen=True)
class Limits:
    """Numbers of faults after which a run gives up.

    Attributes
    ----------
    losses
        Workers lost in a row, without any work done in between.
    tile_losses
        Workers lost by the same tile, whatever other tiles achieve: it is the tile that ends them.
    attempts
        Resubmissions of one call, or repetitions after a failed read or write.
    rollbacks
        Times that a group went back without a checkpoint or a finished tile of its own in between.
    """

    losses: int = 8
    tile_losses: int = 4
    attempts: int = 6
    rollbacks: int = 16


@dataclass(frozen=True)
class RetryHistory:
    """Faults before this one, of the same call, tile, group and run.

    Attributes
    ----------
    losses
        Workers lost since a call last succeeded.
    tile_losses
        Workers that this tile has lost since its last checkpoint.
    attempts
        Repetitions of this call so far.
    rollbacks
        Roll-backs of the tile's group since its last checkpoint or finished tile.
    throttled
        Whether each worker has one call in flight already.
    spilled
        Whether pieces go through the store already.
    admitted
        Whether any worker has ever been admitted.
    """

    losses: int = 0
    tile_losses: int = 0
    attempts: int = 0
    rollbacks: int = 0
    throttled: bool = False
    spilled: bool = False
    admitted: bool = False


@dataclass(frozen=True)
class Decision:
    """The action that follows a fault.

    Attributes
    ----------
    action
        The action to take.
    delay
        Seconds to wait before it.
    advice
        Advice to the user, when the run fails.
    """

    action: Action
    delay: float = 0.0
    advice: str = ""


_RESUME = "finished work is kept: run the same command again to resume"
_MEMORY = (
    "give each worker more memory or start fewer (--workers), or make the problem's blocks smaller "
    "(tile_columns, window, rows_per_call)"
)


def decide(fault: Fault, history: RetryHistory, limits: Limits) -> Decision:
    """Decide what follows a fault.

    Parameters
    ----------
    fault, history
        The fault, and the faults before of the same call, tile, group and run.
    limits
        Numbers of faults after which the run gives up.

    Returns
    -------
    Decision
        The action. Any sequence of faults without progress ends in ``Action.FAIL``, but for nodes
        that are taken away as announced.
    """
    decision = Decision(Action.FAIL)  # of a bug, of bad input, of a first worker that is unfit
    match fault:
        case Fault.START | Fault.VERSIONS if history.admitted:
            decision = Decision(Action.REFUSE)  # it is the node, not the problem
        case Fault.STORAGE:
            # A full disk stays full; a server's failure is often brief.
            redo = Decision(Action.REDO, delay=1.0 + 2 * history.attempts)
            decision = redo if history.attempts < 2 else Decision(Action.FAIL, advice=_RESUME)
        case Fault.UNAVAILABLE if history.attempts < limits.attempts:
            decision = Decision(Action.RESUBMIT, delay=min(15.0, 2.0**history.attempts))
        case Fault.PREEMPTED:
            decision = Decision(Action.REPLACE)  # announced, and no sign of anything wrong
        case Fault.UNAVAILABLE | Fault.LOST | Fault.STALLED:
            decision = _loss(history, limits)
        case Fault.OUT_OF_MEMORY if history.throttled:
            decision = Decision(Action.FAIL, advice=f"{_MEMORY}; {_RESUME}")
        case Fault.OUT_OF_MEMORY:
            decision = Decision(Action.THROTTLE)
        case Fault.STORE_FULL if history.spilled:
            decision = Decision(Action.FAIL, advice=f"give Ray a larger object store; {_RESUME}")
        case Fault.STORE_FULL:
            decision = Decision(Action.SPILL)
        case Fault.OBJECT_LOST | Fault.STALE | Fault.CHECKPOINT_DAMAGED if (
            history.rollbacks >= limits.rollbacks
        ):
            decision = Decision(Action.FAIL, advice=_RESUME)
        case Fault.OBJECT_LOST:
            # Its worker is probably lost too, which shows a moment later: go back once, not twice.
            decision = Decision(Action.ROLL_BACK, delay=2.0)
        case Fault.STALE | Fault.CHECKPOINT_DAMAGED:
            decision = Decision(Action.ROLL_BACK)
    return decision


def _loss(history: RetryHistory, limits: Limits) -> Decision:
    if history.tile_losses >= limits.tile_losses:
        return Decision(Action.FAIL, advice=f"if the kernel killed it, {_MEMORY}; {_RESUME}")
    if history.losses >= limits.losses:
        return Decision(Action.FAIL, advice=_RESUME)
    return Decision(Action.REPLACE)
