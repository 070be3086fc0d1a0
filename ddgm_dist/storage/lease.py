"""Who writes to a store: a lease that its holder renews, and that expires when the holder dies.

Two drivers on one output would do the same work twice and delete each other's checkpoints. The lease is
the file ``ddgm_dist/lease.json`` of the output, changed only by conditional writes: of several that
try at the same time exactly one gets it. A lease of a process of this host that has ended is taken over
at once, any other when it has expired, by the clocks of both: keep them within a few seconds. An object
store whose server does not honour conditions is found out, and a warning logged: there two that start
at the same moment would not see each other.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.location import ObjectPath, kvstore, locate, plain
from ddgm_dist.storage.array_io import write_error
from ddgm_dist.storage.volume import SIDECAR

__all__ = ["LEASE", "Lease", "is_alive"]

LEASE = "lease.json"

log = logging.getLogger("ddgm_dist")


class Lease:
    """The right to write to one output; a context manager that acquires and releases it.

    Parameters
    ----------
    out
        The output store.
    duration
        Seconds after the last renewal at which others may take it over.
    renew_every
        Seconds between renewals.

    Attributes
    ----------
    owner
        Identifies this holder; also the name of its session in the log of events.
    """

    def __init__(
        self, out: str | Path | ObjectPath, *, duration: float = 30.0, renew_every: float = 5.0
    ) -> None:
        self.path = locate(out, "out")
        self.duration, self.renew_every = duration, renew_every
        self.owner = uuid.uuid4().hex
        self._store = kvstore(self.path / SIDECAR)
        self._generation: bytes | None = None
        self._lost = ""
        self._renewed = time.monotonic()
        self._renewing = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Take the lease and keep it renewed.

        Raises
        ------
        InputError
            Another driver holds it.
        StorageError
            It cannot be written.
        """
        found = self._read()
        if found.state == "value":
            held = _parse(found.value)
            if not _is_free(held):
                until = time.strftime("%H:%M:%S", time.localtime(held["expires"]))
                raise InputError(
                    "out",
                    str(self.path),
                    f"is being written by process {held['pid']} on {held['host']}, whose lease "
                    f"runs until {until}",
                    "let it finish (ddgm-dist status shows how far it is), or stop it",
                )
        self._renewed = time.monotonic()
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
            It was taken over, as this process did not renew it in time; or it has expired and cannot
            be renewed.
        """
        if not self._lost and time.monotonic() - self._renewed > self.duration:
            self._renew_once()  # maybe this process was stopped for a while, and nobody came
        if self._lost:
            raise StorageError(self._lost)

    def release(self) -> None:
        """Stop renewing, and delete the lease if it is ours."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._generation is not None and not self._lost:
            with contextlib.suppress(ValueError, OSError):  # it expires by itself
                self._store.write(LEASE, None, if_equal=self._generation).result()
        self._generation = None

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

    def _renew(self) -> None:
        while not self._stop.wait(self.renew_every):
            # If it cannot be written it may be better next time; if not, the lease expires.
            with contextlib.suppress(StorageError):
                self._renew_once()
            if self._lost:
                return

    def _renew_once(self) -> None:
        with self._renewing:
            began = time.monotonic()
            written = self._write(self._generation)
            if written is None:
                self._lost = (
                    f"{self.path}: this process was not heard of for {self.duration:.0f} s, and "
                    "another has taken over; nothing is lost, the other goes on"
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
        try:
            return self._store.read(LEASE).result()
        except (ValueError, OSError) as error:
            raise StorageError(f"the lease of {self.path} cannot be read: {plain(error)}") from None

    def _write(self, expected: bytes | None, *, ours: bool = True) -> bytes | None:
        """Write the lease if it is still as expected; None if it is not.

        A server may do what it is asked and the answer be lost; asked again it refuses. So one that
        is not as expected but ours (and such are looked for) was written by the first request.
        """
        value = {
            "owner": self.owner,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process_started": process_started(os.getpid()),
            "machine": _machine(),
            "expires": time.time() + self.duration,
        }
        try:
            stamp = self._store.write(LEASE, json.dumps(value).encode(), if_equal=expected).result()
        except (ValueError, OSError) as error:
            raise write_error(self.path, 256, error) from error
        generation: bytes = stamp.generation
        if not generation and ours:
            found = self._read()
            if found.state == "value" and _owner(found.value) == self.owner:
                generation = found.stamp.generation
        return generation or None


def is_alive(lease: dict[str, Any]) -> bool:
    """Whether the holder of a lease can be taken to be running."""
    return not _is_free(lease)


def process_started(pid: int) -> str:
    """What tells a process from a later one with its number; empty where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return fields.rpartition(")")[2].split()[19]


def _is_free(held: dict[str, Any]) -> bool:
    if held["expires"] < time.time():
        return True
    here = _machine() != "" and held.get("machine") == _machine()
    return here and process_started(int(held["pid"])) != held["process_started"]


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


def _parse(value: bytes) -> dict[str, Any]:
    """The lease; one that cannot be read has expired."""
    try:
        held = json.loads(value)
        return {
            "host": str(held["host"]),
            "pid": int(held["pid"]),
            "process_started": str(held["process_started"]),
            "machine": str(held.get("machine", "")),
            "expires": float(held["expires"]),
        }
    except (ValueError, KeyError, TypeError):
        return {"host": "", "pid": 0, "process_started": "", "machine": "", "expires": 0.0}
