"""The holder of a lease: its process, its machine, and whether it is still running."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import time
from pathlib import Path
from typing import Any

from ddgm_dist.paths.claim import LEASE, SIDECAR
from ddgm_dist.paths.place import Place
from ddgm_dist.records.json_files import read_table

__all__ = [
    "DURATION",
    "is_alive",
    "is_dead",
    "is_fresh",
    "is_stopped",
    "lease_of",
    "machine",
    "now",
    "owner_of",
    "parse_lease",
    "process_started",
    "warn_of_writer",
]

# Seconds; also of leases written before the file said its duration.
DURATION = 30.0

log = logging.getLogger("ddgm_dist")


def lease_of(place: Place) -> dict[str, Any]:
    """The lease of the process that writes at a place; empty if there is none."""
    return read_table(place / SIDECAR / LEASE)


def warn_of_writer(place: Place) -> None:
    """Warn a reader that a process is writing a store that is to replace this one."""
    lease = lease_of(place)
    with contextlib.suppress(KeyError, TypeError, ValueError):
        if is_alive(lease):
            log.warning(
                "%s is being replaced by process %s on %s; what is read here is what was there before",
                place,
                lease["pid"],
                lease["host"],
            )


def is_alive(lease: dict[str, Any]) -> bool:
    """Return whether the holder of a lease seems to be running, from one look at the file.

    It compares this host's clock with the holder's, so it may be wrong for a while where they differ.
    It serves messages only; no lease is taken over because of it.
    """
    return float(lease["expires"]) >= time.time() and not is_dead(lease)


def is_stopped(lease: dict[str, Any]) -> bool:
    """Return whether the holder of a lease is a process of this machine that a signal has stopped."""
    return (
        _is_here(lease)
        and not is_dead(lease)
        and _stat(int(lease["pid"]))[:1] in (["T"], ["t"])  # stopped; traced, by a debugger
    )


def process_started(pid: int) -> str:
    """The start time of a process, which a later process of the same number does not have.

    Empty where there is no such process. A zombie counts as none: in a container without an init it
    keeps its number.
    """
    fields = _stat(pid)
    return "" if not fields or fields[0] in ("Z", "X") else fields[19]


def _stat(pid: int) -> list[str]:
    """Fields of ``/proc/PID/stat`` from the state on; empty where there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    return fields.rpartition(")")[2].split()


def _is_here(held: dict[str, Any]) -> bool:
    """Return whether the holder of a lease is, or was, a process of this very machine."""
    return machine() != "" and held.get("machine") == machine()


def is_dead(held: dict[str, Any]) -> bool:
    """Return whether the holder is known to have ended."""
    return _is_here(held) and process_started(int(held["pid"])) != held["process_started"]


def is_fresh(held: dict[str, Any]) -> bool:
    """Return whether the holder runs on this machine and has renewed the lease within its duration.

    A holder that runs and has not renewed it is halted, or could not delete a lease that it gave back.
    """
    return _is_here(held) and 0 <= now() - held["renewed"] < held["duration"]


def now() -> float:
    """Seconds since this machine was started, sleep included."""
    clock: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


@functools.cache
def machine() -> str:
    """Identity of the process table: boot and namespace; empty where the system does not say.

    A host's name is not enough: containers on the host's network share it, with process numbers of
    their own.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def owner_of(value: bytes) -> str:
    try:
        return str(json.loads(value)["owner"])
    except (ValueError, KeyError, TypeError):
        return ""


def parse_lease(value: bytes) -> dict[str, Any] | None:
    """Fields of a lease; None if the file is damaged."""
    try:
        held = json.loads(value)
        duration = float(held.get("duration", DURATION))
        if not (math.isfinite(duration) and duration > 0):
            return None
        return {
            "host": str(held["host"]),
            "pid": int(held["pid"]),
            "process_started": str(held["process_started"]),
            "machine": str(held.get("machine", "")),
            "duration": duration,
            "renewed": float(held.get("renewed", math.inf)),
        }
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
