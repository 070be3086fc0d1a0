"""Who writes to a store: a lease that its holder renews, and that others take over when it does not.

Two drivers on one output would do the same work twice and delete each other's checkpoints. The lease is
the file ``ddgm_dist/lease.json`` of the output, changed only by conditional writes: of several that
try at the same time exactly one gets it.

No clock of one host is compared with that of another. Whoever finds a lease of another host watches it:
every renewal gives the file another generation, so one that stays the same for the lease's duration is
held by nobody, and is replaced on the condition that it still is the same; one that changes has a living
holder. What a process of this very machine holds needs no watching: it is free if that process has
ended.

The holder counts from the moment before its last renewal was sent, and stops sooner, after `LAPSE` of
the duration; a watcher counts from the moment after it has first seen that renewal, or a later one. So
the two never write at the same time, but for a write that was sent in the last moment and is on its way
for longer than the rest of the duration (10 s), or whose host was halted between check and write. Both
clocks run on while their machine sleeps; that of a virtual machine may stop when its host halts it.

An object store whose server does not honour conditions is found out, and a warning logged: there two
that start at the same moment would not see each other.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.claim import LEASE, SIDECAR
from ddgm_dist.paths.files import exclusive, write_bytes
from ddgm_dist.paths.forks import ForkedError, used
from ddgm_dist.paths.free_space import write_error
from ddgm_dist.paths.lock import LOCK, locked
from ddgm_dist.paths.object_store import kvstore, strip_http_body
from ddgm_dist.paths.place import ObjectPath, Place

__all__ = ["LEASE", "Lease", "is_alive", "is_stopped"]

# The part of the duration after which a holder that could not renew its lease stops writing.
LAPSE = 2 / 3
# How often a holder tries to renew a lease that has lapsed, before it takes the store for too slow.
_TRIES = 3
# Seconds; of leases of before the duration was written into them.
_DURATION = 30.0

log = logging.getLogger("ddgm_dist")


class Lease:
    """The right to write to one output; a context manager that acquires and releases it.

    Parameters
    ----------
    out
        The output store.
    duration
        Seconds that others watch it without seeing a renewal, until they take it over. Two thirds of
        that after its last renewal the holder itself does not count on it any more.
    renew_every
        Seconds between renewals, or attempts at them; less than two thirds of the duration.

    Attributes
    ----------
    owner
        Identifies this holder; also the name of its session in the log of events.
    """

    def __init__(
        self, out: Place, *, duration: float = _DURATION, renew_every: float = 5.0
    ) -> None:
        self.path = out
        self.duration, self.renew_every = duration, renew_every
        self.owner = uuid.uuid4().hex
        self._place, self._store = self.path / SIDECAR / LEASE, kvstore(self.path / SIDECAR)
        self._generation: bytes | None = None
        self._lost = ""
        self._count = 0
        self._renewed = _now()
        self._renewing = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._made: list[Path] = []

    def acquire(self) -> None:
        """Take the lease and keep it renewed; one of another host is watched first, for its duration.

        Raises
        ------
        InputError
            Another driver holds it.
        StorageError
            It cannot be read or written.
        """
        if isinstance(self.path, Path):
            folders = (self.path / SIDECAR, self.path)
            self._made = [folder for folder in folders if not folder.exists()]
        found = self._read()
        if found.state == "value":
            found = self._wait(found)
        self._renewed = _now()
        self._generation = self._write(found.stamp.generation)
        if self._generation is None:
            raise InputError(
                "out",
                str(self.path),
                "another driver has begun to write it at this very moment",
                "let it finish, or start again when it has ended",
            )
        if isinstance(self.path, ObjectPath) and found.state == "missing":
            self._try_conditions(found.stamp.generation)
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Make sure that the lease is still ours.

        Raises
        ------
        StorageError
            It was taken over, as this process did not renew it in time; or it has lapsed and cannot
            be renewed.
        """
        for _ in range(_TRIES):
            if self._lost:
                raise StorageError(self._lost)
            if not self._has_lapsed():
                return
            self._renew_once()  # maybe this process was stopped for a while, and nobody came
        if self._lost:
            raise StorageError(self._lost)
        if self._has_lapsed():
            raise StorageError(
                f"{self.path}: to renew the lease took longer than {LAPSE * self.duration:.0f} s, "
                f"{_TRIES} times in a row; the store is too slow or too busy: run the same command "
                "again when it answers sooner, what is finished is kept"
            )

    def release(self) -> None:
        """Stop renewing, and delete the lease if it is ours."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._generation is not None and not self._lost and self._is_there():
            # If it stays others watch it for a while.
            # And a child that was forked meanwhile leaves it to its parent.
            with contextlib.suppress(ValueError, OSError, ForkedError), exclusive(self._place):
                used()
                self._store.write(LEASE, None, if_equal=self._generation).result()
            self._leave_as_found()
        self._generation = None

    def _leave_as_found(self) -> None:
        """Remove the folders that only the lease was in."""
        for folder in self._made:
            with contextlib.suppress(OSError):
                if folder.name == SIDECAR and folder.is_dir():
                    with locked(folder):
                        if [path.name for path in folder.iterdir()] == [LOCK]:
                            (folder / LOCK).unlink()
                folder.rmdir()

    @property
    def lost(self) -> bool:
        """Whether somebody else has taken the lease over."""
        return bool(self._lost)

    @contextlib.contextmanager
    def carried(self, folder: Path) -> Iterator[None]:
        """Meanwhile a folder takes the place of the store: the lease goes there with it.

        Raises
        ------
        StorageError
            The lease is not ours any more.
        """
        with self._renewing:
            found = self._read()
            if found.state != "value" or _owner(found.value) != self.owner:
                raise StorageError(
                    f"{self.path}: somebody else writes there now; nothing was replaced"
                )
            write_bytes(folder / SIDECAR / LEASE, found.value)
            try:
                yield
            finally:
                # Whichever folder is there now, and whatever failed after it was put there.
                found = self._read()
                if found.state == "value" and _owner(found.value) == self.owner:
                    self._generation = found.stamp.generation
                if isinstance(self.path, Path):
                    self._made = [self.path / SIDECAR]

    def __enter__(self) -> Lease:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _wait(self, found: Any) -> Any:
        """Wait until a lease is free; what to replace.

        Raises
        ------
        InputError
            Its holder lives.
        """
        seen, held = _now(), _parse(found.value)
        if held is None or _is_dead(held):
            # Leases are written whole, and a holder whose lease was damaged by something else finds
            # that it is not its own when it next renews it: nobody keeps one that cannot be read.
            return found
        if _is_fresh(held):
            raise self._held(held)
        log.warning(
            "%s: process %d on %s %s the lease; watching for %.0f s at most whether it is renewed",
            self.path,
            held["pid"],
            held["host"],
            "is stopped, and held" if is_stopped(held) else "held",
            held["duration"],
        )
        first = found.stamp.generation
        while (left := seen + held["duration"] - _now()) > 0:
            time.sleep(min(left, 1.0, held["duration"] / 10))
            found = self._read()
            if found.state != "value":
                break  # given back
            if found.stamp.generation != first:
                raise self._held(_parse(found.value) or held)
        return found

    def _held(self, held: dict[str, Any]) -> InputError:
        pid = held["pid"]
        if is_stopped(held):
            return InputError(
                "out",
                str(self.path),
                f"is being written by process {pid} on this machine, which is stopped (by Ctrl-Z or "
                "SIGSTOP)",
                f"continue it with `kill -CONT {pid}`, or end it with `kill -KILL {pid}`: what is "
                f"finished is kept; {held['duration']:.0f} s after it was stopped another run may "
                "take over",
            )
        return InputError(
            "out",
            str(self.path),
            f"is being written by process {held['pid']} on {held['host']}, which renews its lease",
            "let it finish (ddgm-dist status shows how far it is), or stop it",
        )

    def _is_there(self) -> bool:
        """Whether the lease's folder is; one that has gone is not made again by who held it."""
        return not isinstance(self.path, Path) or (self.path / SIDECAR).is_dir()

    def _has_lapsed(self) -> bool:
        return _now() - self._renewed > LAPSE * self.duration

    def _renew(self) -> None:
        while not self._stop.wait(self.renew_every):
            # If it cannot be written it may be better next time; if not, others take the lease over.
            with contextlib.suppress(StorageError):
                self._renew_once()
            if self._lost:
                return

    def _renew_once(self) -> None:
        with self._renewing:
            began = _now()
            written = self._write(self._generation) if self._is_there() else None
            if written is None:
                self._lost = (
                    f"{self.path}: this process was not heard of for {self.duration:.0f} s (it was "
                    "stopped, its machine slept, or the store did not answer), and another has taken "
                    "over; nothing is lost, the other goes on"
                )
            else:
                self._generation, self._renewed = written, began

    def _try_conditions(self, absent: bytes) -> None:
        """Ask for what must be refused: to write the lease, which is there, if it is not."""
        written = self._write(absent, ours=False)
        if written is not None:
            self._generation = written
            log.warning(
                "%s: the server does not honour conditional writes; make sure that no second run "
                "is started on this output",
                self.path,
            )

    def _read(self) -> Any:
        used()
        try:
            return self._store.read(LEASE).result()
        except (ValueError, OSError) as error:
            raise StorageError(
                f"the lease of {self.path} cannot be read: {strip_http_body(error)}"
            ) from None

    def _write(self, expected: bytes | None, *, ours: bool = True) -> bytes | None:
        """Write the lease if it is still as expected; None if it is not.

        A server may do what it is asked and the answer be lost; asked again it refuses. So one that
        is not as expected but just what was to be written was written by the first request. One that
        is ours, but was written earlier, by a request that was given up, is replaced: it must not
        count as renewed now, as those who watch it saw it change then.
        """
        used()
        self._count += 1
        value = json.dumps(
            {
                "owner": self.owner,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "process_started": process_started(os.getpid()),
                "machine": _machine(),
                # No two are equal: an object's generation may be but a hash of what it holds.
                "count": self._count,
                "duration": self.duration,
                "renewed": _now(),  # for this machine only
                "expires": time.time() + self.duration,  # for `status` only
            }
        ).encode()
        for _ in range(2):
            try:
                with exclusive(self._place):
                    stamp = self._store.write(LEASE, value, if_equal=expected).result()
            except (ValueError, OSError) as error:
                raise write_error(self.path, 256, error) from error
            generation: bytes = stamp.generation
            if generation or not ours:
                break
            found = self._read()
            if found.state != "value" or _owner(found.value) != self.owner:
                break
            if found.value == value:
                generation = found.stamp.generation
                break
            expected = found.stamp.generation
        return generation or None


def is_alive(lease: dict[str, Any]) -> bool:
    """Whether the holder of a lease can be taken to be running, by a single look at it.

    For people: it compares this host's clock with the holder's, so it is wrong for a while after the
    holder's death, or before it, if they differ. Nobody takes a lease over by it.
    """
    return float(lease["expires"]) >= time.time() and not _is_dead(lease)


def is_stopped(lease: dict[str, Any]) -> bool:
    """Whether the holder of a lease is a process of this machine that a signal has stopped."""
    return (
        _is_here(lease)
        and not _is_dead(lease)
        and _stat(int(lease["pid"]))[:1] in (["T"], ["t"])  # stopped; traced, by a debugger
    )


def process_started(pid: int) -> str:
    """What tells a process from a later one with its number; empty where there is none.

    One that has ended and that its parent has not asked after keeps its number, as in a container
    without an init: it is none.
    """
    fields = _stat(pid)
    return "" if not fields or fields[0] in ("Z", "X") else fields[19]


def _stat(pid: int) -> list[str]:
    """What the kernel says of a process, from its state on; empty where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    return fields.rpartition(")")[2].split()


def _is_here(held: dict[str, Any]) -> bool:
    """Whether the holder of a lease is, or was, a process of this very machine."""
    return _machine() != "" and held.get("machine") == _machine()


def _is_dead(held: dict[str, Any]) -> bool:
    """Whether the holder is known to have ended."""
    return _is_here(held) and process_started(int(held["pid"])) != held["process_started"]


def _is_fresh(held: dict[str, Any]) -> bool:
    """Whether the holder, of this machine, renewed it lately; such a one need not be watched.

    One that runs and has not done so is halted, or could not delete the lease that it gave back.
    """
    return _is_here(held) and 0 <= _now() - held["renewed"] < held["duration"]


def _now() -> float:
    """Seconds since this machine was started; those that it slept count as well."""
    clock: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


@functools.cache
def _machine() -> str:
    """Whose process numbers these are; empty where that cannot be told.

    A host's name does not say it: containers on the host's network share it, and have numbers of their
    own.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _owner(value: bytes) -> str:
    try:
        return str(json.loads(value)["owner"])
    except (ValueError, KeyError, TypeError):
        return ""


def _parse(value: bytes) -> dict[str, Any] | None:
    """The lease; None if it cannot be read."""
    try:
        held = json.loads(value)
        duration = float(held.get("duration", _DURATION))
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
