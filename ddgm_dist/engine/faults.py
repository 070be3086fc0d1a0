"""What to do about a fault: a pure function of what happened and what happened before.

An engine says which `Fault` an error is; `decide` says what follows. Steps are functions of
addresses and generations are fixed by the problem, so doing work again is always safe: the policy is
about not losing time, and about ending a run that cannot succeed with advice instead of a loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Action", "Decision", "Fault", "Limits", "RetryHistory", "decide"]


class Fault(StrEnum):
    """What happened to a call or a worker."""

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
    STALLED = "stalled"  # no progress and no sign of life
    STALE = "stale"  # a worker lost its states without telling
    CHECKPOINT_DAMAGED = "checkpoint-damaged"


class Action(StrEnum):
    """What follows."""

    FAIL = "fail"
    REDO = "redo"  # the same call again, by any worker
    RESUBMIT = "ask again"  # the same call to the same worker: it may have done it already
    REPLACE = "replace the worker"  # and redo what it held
    ROLL_BACK = "roll back"  # the group goes back to its last checkpoint
    LIGHTEN = "do less at a time"  # replace, with one call in flight from now on
    REFUSE = "go on without it"  # the worker gets no call
    STREAM = "pass pieces through the store"  # roll back, and use no object store from now on


@dataclass(frozen=True)
class Limits:
    """When to give up.

    Attributes
    ----------
    losses
        Workers lost in a row, without any work done in between.
    tile_losses
        Workers lost by the same tile, whatever others come to: it is the tile that kills them.
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
    """What happened before.

    Attributes
    ----------
    losses
        Workers lost since a call last ended well.
    tile_losses
        Workers that this tile has lost since its last checkpoint.
    attempts
        Repetitions of this call so far.
    rollbacks
        Of the tile's group, since its last checkpoint or finished tile.
    light
        Whether one call is in flight per worker already.
    streamed
        Whether pieces go through the store already.
    admitted
        Whether any worker has ever been fit for work.
    """

    losses: int = 0
    tile_losses: int = 0
    attempts: int = 0
    rollbacks: int = 0
    light: bool = False
    streamed: bool = False
    admitted: bool = False


@dataclass(frozen=True)
class Decision:
    """What to do.

    Attributes
    ----------
    action
        What.
    delay
        Seconds to wait before.
    advice
        For the user, when the run fails.
    """

    action: Action
    delay: float = 0.0
    advice: str = ""


_AGAIN = "finished work is kept: run the same command again to go on"
_MEMORY = (
    "give each worker more memory or start fewer (--workers), or make the problem's blocks smaller "
    "(tile_columns, window, rows_per_call)"
)


def decide(fault: Fault, past: RetryHistory, limits: Limits) -> Decision:
    """The error policy."""
    decision = Decision(Action.FAIL)  # of a bug, of bad input, of a first worker that is unfit
    match fault:
        case Fault.START | Fault.VERSIONS if past.admitted:
            decision = Decision(Action.REFUSE)  # it is the node, not the problem
        case Fault.STORAGE:
            # A full disk stays full; a server that stumbled does not.
            again = Decision(Action.REDO, delay=1.0 + 2 * past.attempts)
            decision = again if past.attempts < 2 else Decision(Action.FAIL, advice=_AGAIN)
        case Fault.UNAVAILABLE if past.attempts < limits.attempts:
            decision = Decision(Action.RESUBMIT, delay=min(15.0, 2.0**past.attempts))
        case Fault.PREEMPTED:
            decision = Decision(Action.REPLACE)  # announced, and no sign of anything wrong
        case Fault.UNAVAILABLE | Fault.LOST | Fault.STALLED:
            decision = _loss(past, limits)
        case Fault.OUT_OF_MEMORY if past.light:
            decision = Decision(Action.FAIL, advice=f"{_MEMORY}; {_AGAIN}")
        case Fault.OUT_OF_MEMORY:
            decision = Decision(Action.LIGHTEN)
        case Fault.STORE_FULL if past.streamed:
            decision = Decision(Action.FAIL, advice=f"give Ray a larger object store; {_AGAIN}")
        case Fault.STORE_FULL:
            decision = Decision(Action.STREAM)
        case Fault.OBJECT_LOST | Fault.STALE | Fault.CHECKPOINT_DAMAGED if (
            past.rollbacks >= limits.rollbacks
        ):
            decision = Decision(Action.FAIL, advice=_AGAIN)
        case Fault.OBJECT_LOST:
            # Its worker is probably gone, which is told a moment later: go back once, not twice.
            decision = Decision(Action.ROLL_BACK, delay=2.0)
        case Fault.STALE | Fault.CHECKPOINT_DAMAGED:
            decision = Decision(Action.ROLL_BACK)
    return decision


def _loss(past: RetryHistory, limits: Limits) -> Decision:
    if past.tile_losses >= limits.tile_losses:
        return Decision(Action.FAIL, advice=f"if the kernel killed it, {_MEMORY}; {_AGAIN}")
    if past.losses >= limits.losses:
        return Decision(Action.FAIL, advice=_AGAIN)
    return Decision(Action.REPLACE)
