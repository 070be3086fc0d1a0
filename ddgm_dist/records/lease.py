"""The lease of an output: one driver writes to it at a time, and the next one when that has ended.

Two drivers on one output would do the same work twice and delete each other's checkpoints. The lease is
the file ``ddgm_dist/lease.json`` of the output. It is changed by conditional writes only, so exactly one
of several drivers that try at the same time acquires it.

The clocks of two hosts are never compared. A driver that finds the lease of another host watches the
file: every renewal gives it another generation. One that stays the same for the lease's duration has no
holder, and is replaced on the condition that it is still the same. A lease of a process of this machine
needs no watching: it is free if that process has ended (`ddgm_dist.records.lease_holder`).

The holder counts from the moment before it sent its last renewal, and stops after `LAPSE` of the
duration. A watcher counts from the moment after it first saw that renewal, or a later one, to the whole
duration. So the two never write at the same time, unless a last write arrives 10 s late or its host
stops between check and write. Both clocks run on while their machine sleeps; that of a virtual
machine may stop when its host halts it.

A warning is logged if the server of an object store does not honour conditions. Two drivers that start
there at the same moment do not see each other.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.claim import LEASE, SIDECAR
from ddgm_dist.paths.files import exclusive, write_bytes
from ddgm_dist.paths.forks import ForkedError, used
from ddgm_dist.paths.free_space import write_error
from ddgm_dist.paths.lock import LOCK, locked
from ddgm_dist.paths.object_store import kvstore, strip_http_body
from ddgm_dist.paths.place import ObjectPath, Place
from ddgm_dist.records import lease_holder as holder

__all__ = ["Lease"]

# Share of the duration after which a holder that could not renew its lease stops writing.
LAPSE = 2 / 3
# Attempts of a holder to renew a lease that has lapsed, before it takes the store for too slow.
_TRIES = 3

log = logging.getLogger("ddgm_dist")


class Lease:
    """The right to write to one output; a context manager that acquires and releases it.

    Parameters
    ----------
    out
        The output store.
    duration
        Seconds without a renewal after which another driver may take the lease over. The holder
        itself stops relying on it two thirds of that after its last renewal.
    renew_every
        Seconds between renewals, or attempts at them; less than two thirds of the duration.

    Attributes
    ----------
    owner
        Name of this holder, and of its session in the log of events.
    """

    def __init__(
        self, out: Place, *, duration: float = holder.DURATION, renew_every: float = 5.0
    ) -> None:
        self.path = out
        self.duration, self.renew_every = duration, renew_every
        self.owner = uuid.uuid4().hex
        self._place, self._store = self.path / SIDECAR / LEASE, kvstore(self.path / SIDECAR)
        self._generation: bytes | None = None
        self._lost = ""
        self._count = 0
        self._renewed = holder.now()
        self._renewing = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._made: list[Path] = []

    def acquire(self) -> None:
        """Take the lease and keep it renewed; that of another host is watched for its duration first.

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
        self._renewed = holder.now()
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
            self._renew_once()  # this process may have been stopped for a while, and the lease be free
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
            # A lease that cannot be deleted costs the next driver its duration of watching. A child
            # that was forked meanwhile leaves the lease to its parent.
            with contextlib.suppress(ValueError, OSError, ForkedError), exclusive(self._place):
                used()
                self._store.write(LEASE, None, if_equal=self._generation).result()
            self._leave_as_found()
        self._generation = None

    def _leave_as_found(self) -> None:
        """Remove the folders that were made for the lease and hold nothing else."""
        for folder in self._made:
            with contextlib.suppress(OSError):
                if folder.name == SIDECAR and folder.is_dir():
                    with locked(folder):
                        if [path.name for path in folder.iterdir()] == [LOCK]:
                            (folder / LOCK).unlink()
                folder.rmdir()

    @property
    def lost(self) -> bool:
        """True if another driver has taken over the lease."""
        return bool(self._lost)

    @contextlib.contextmanager
    def carried(self, folder: Path) -> Iterator[None]:
        """Copy the lease into a folder that takes the place of the store within the block.

        Raises
        ------
        StorageError
            The lease is not ours any more.
        """
        with self._renewing:
            found = self._read()
            if found.state != "value" or holder.owner_of(found.value) != self.owner:
                raise StorageError(
                    f"{self.path}: another process writes there now; nothing was replaced"
                )
            write_bytes(folder / SIDECAR / LEASE, found.value)
            try:
                yield
            finally:
                # The lease is in whichever folder is in the place now, also after an error.
                found = self._read()
                if found.state == "value" and holder.owner_of(found.value) == self.owner:
                    self._generation = found.stamp.generation
                if isinstance(self.path, Path):
                    self._made = [self.path / SIDECAR]

    def __enter__(self) -> Lease:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def _wait(self, found: Any) -> Any:
        """Wait until a lease is free; returns the read file that is to be replaced.

        Raises
        ------
        InputError
            Its holder is running.
        """
        seen, held = holder.now(), holder.parse_lease(found.value)
        if held is None or holder.is_dead(held):
            # A lease is written whole. A holder whose file was damaged loses the lease at its next
            # renewal, so a lease that cannot be read has no holder.
            return found
        if holder.is_fresh(held):
            raise self._held(held)
        log.warning(
            "%s: process %d on %s %s the lease; watching for %.0f s at most whether it is renewed",
            self.path,
            held["pid"],
            held["host"],
            "is stopped, and held" if holder.is_stopped(held) else "held",
            held["duration"],
        )
        first = found.stamp.generation
        while (left := seen + held["duration"] - holder.now()) > 0:
            time.sleep(min(left, 1.0, held["duration"] / 10))
            found = self._read()
            if found.state != "value":
                break  # given back
            if found.stamp.generation != first:
                raise self._held(holder.parse_lease(found.value) or held)
        return found

    def _held(self, held: dict[str, Any]) -> InputError:
        pid = held["pid"]
        if holder.is_stopped(held):
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
        """Return whether the lease's folder exists; a holder does not make it again."""
        return not isinstance(self.path, Path) or (self.path / SIDECAR).is_dir()

    def _has_lapsed(self) -> bool:
        return holder.now() - self._renewed > LAPSE * self.duration

    def _renew(self) -> None:
        while not self._stop.wait(self.renew_every):
            # The next attempt may succeed; if none does, another driver takes the lease over.
            with contextlib.suppress(StorageError):
                self._renew_once()
            if self._lost:
                return

    def _renew_once(self) -> None:
        with self._renewing:
            began = holder.now()
            written = self._write(self._generation) if self._is_there() else None
            if written is None:
                self._lost = (
                    f"{self.path}: this process was not heard of for {self.duration:.0f} s (it was "
                    "stopped, its machine slept, or the store did not answer), and another has taken "
                    "over; nothing is lost, the other continues"
                )
            else:
                self._generation, self._renewed = written, began

    def _try_conditions(self, absent: bytes) -> None:
        """Send a write whose condition does not hold, to find out whether the server refuses it."""
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
        """Write the lease if it is of the expected generation; returns the new one, or None.

        A server may write and its answer be lost; it then refuses the request that is repeated. So a
        lease that holds exactly what was to be written was written by the first request. One that is
        ours, but older, comes from a request that was given up. It is replaced: watchers saw that
        change when it happened, so it must not count as a renewal now.
        """
        used()
        self._count += 1
        value = json.dumps(
            {
                "owner": self.owner,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "process_started": holder.process_started(os.getpid()),
                "machine": holder.machine(),
                # Makes each content differ: the generation of an object may be a hash of its content.
                "count": self._count,
                "duration": self.duration,
                "renewed": holder.now(),  # for this machine only
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
            if found.state != "value" or holder.owner_of(found.value) != self.owner:
                break
            if found.value == value:
                generation = found.stamp.generation
                break
            expected = found.stamp.generation
        return generation or None
