"""Errors of calls and of workers, sorted into faults."""

from __future__ import annotations

import torch
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    ObjectLostError,
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
)

from ddgm_dist.engine.faults import Fault
from ddgm_dist.errors import DdgmError, StorageError
from ddgm_dist.records.checkpoint import CheckpointDamagedError
from ddgm_dist.tile.solver import StaleStepError

__all__ = ["fault_of", "last_line"]

# Words of Ray's memory monitor about why an actor ended: Ray 2.60 has them in the first of forty lines.
_LOW_MEMORY = "low on memory"

# The first that fits counts.
_KINDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Fault], ...] = (
    (CheckpointDamagedError, Fault.CHECKPOINT_DAMAGED),
    (StaleStepError, Fault.STALE),
    (StorageError, Fault.STORAGE),
    (DdgmError, Fault.INPUT),
    ((OutOfMemoryError, MemoryError, torch.cuda.OutOfMemoryError), Fault.OUT_OF_MEMORY),
    ((ObjectStoreFullError, OutOfDiskError), Fault.STORE_FULL),
    (ObjectLostError, Fault.OBJECT_LOST),
    (GetTimeoutError, Fault.STALLED),
    (ActorUnavailableError, Fault.UNAVAILABLE),
    (OSError, Fault.STORAGE),
)


def fault_of(error: BaseException) -> Fault:
    """The fault that an error of a call or of a worker's start means."""
    if isinstance(error, RayTaskError):
        cause = error.cause
        # Only an error of the call's own code is a bug; any other is a fault of that kind.
        if isinstance(cause, RayActorError):
            return Fault.OBJECT_LOST  # the piece that it needed died with its worker
        return _known(cause) or Fault.BUG
    if isinstance(error, ActorDiedError):
        if error.actor_init_failed:
            return Fault.START
        if _LOW_MEMORY in str(error):
            return Fault.OUT_OF_MEMORY
        return Fault.PREEMPTED if error.preempted else Fault.LOST
    return _known(error) or Fault.LOST


def _known(error: BaseException | None) -> Fault | None:
    for kinds, fault in _KINDS:
        if isinstance(error, kinds):
            return fault
    return None


def last_line(error: BaseException) -> str:
    """One line that says what went wrong, without the remote traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in lines:
        if _LOW_MEMORY in line:  # the last line is advice on setting up the memory monitor
            return line
    return lines[-1] if lines else type(error).__name__
