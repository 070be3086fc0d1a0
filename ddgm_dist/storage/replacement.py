"""Replacing a store: what was there stays whole until the new one is, and is deleted last.

On disk the new store is written to a folder beside the place, which then takes the place in one step
(`ddgm_dist.exchange`). In an object store nothing can be renamed: there the new store is written to a
folder of its own within the place, and one write of the place's ``zarr.json`` leads readers to it.

Whoever replaces a store holds its lease, so that no run writes there. An unfinished replacement that
has a record of a run can be resumed (`pending`); any other is deleted by the next one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ddgm_dist.errors import StorageError
from ddgm_dist.exchange import beside, put_in_place
from ddgm_dist.file_lock import LOCK
from ddgm_dist.location import (
    ObjectPath,
    Place,
    delete,
    delete_folder,
    names,
    read_bytes,
    write_bytes,
)
from ddgm_dist.storage.array_io import write_error
from ddgm_dist.storage.lease import LEASE, Lease, is_alive
from ddgm_dist.storage.volume import SIDECAR

__all__ = [
    "Redirect",
    "Replacement",
    "current",
    "lease_of",
    "pending",
    "replacement",
    "warn_of_writer",
]

# Makes the attributes of a group whose arrays lie in one of its folders of those where they lie beside.
Redirect = Callable[[dict[str, Any], str], dict[str, Any]]

_METADATA = "zarr.json"
# Of an object store: the folder of the replacement that is being written.
_NEXT = "next.json"
# Of a folder on disk: it has been replaced, or is about to be.
_REPLACED = "replaced.json"
_FOLDER = "folder"
_PROBLEM = "problem.json"

log = logging.getLogger("ddgm_dist")


class Replacement(Protocol):
    """A store that is being written, and the place that it is to take."""

    lease: Lease

    @property
    def work(self) -> Place:
        """Where the new store is written."""
        ...

    def begin(self) -> None:
        """Take the leases, and delete what an unfinished replacement left.

        Raises
        ------
        InputError
            Somebody else writes there.
        StorageError
            The place cannot be written.
        """
        ...

    def resume(self) -> None:
        """Take the leases, and go on with the unfinished replacement; raises as `begin` does."""
        ...

    def publish(self, redirect: Redirect) -> None:
        """Put the new store, which is whole, in its place, and delete what was there.

        Raises
        ------
        StorageError
            The place was taken by somebody else meanwhile, or cannot be written.
        """
        ...

    def discard(self) -> None:
        """Delete what was written, as far as that goes, and give the leases back."""
        ...

    def release(self) -> None:
        """Give the leases back; what was written stays, to be resumed."""
        ...


def replacement(place: Place, held: Lease | None = None) -> Replacement:
    """The replacement of what lies at a place, which on disk may be nothing.

    Parameters
    ----------
    place
        Of the store.
    held
        Its lease, if it has been taken; the replacement gives it back.
    """
    return _Beside(place, held) if isinstance(place, Path) else _Within(place, held)


def pending(place: Place) -> Place | None:
    """Where an unfinished replacement of a store lies, if there is one."""
    if isinstance(place, Path):
        work = beside(place)
        there = work.is_dir() and not (work / SIDECAR / _REPLACED).exists()
        return work if there else None
    folder = _table(place / SIDECAR / _NEXT).get(_FOLDER)
    if not isinstance(folder, str) or place / folder == current(place):
        return None
    return place / folder


def current(place: Place) -> Place:
    """Where the record and the arrays of a store lie: where it does, or in a folder of it."""
    if isinstance(place, Path):
        return place
    attributes = _table(place / _METADATA).get("attributes")
    ours = attributes.get(SIDECAR) if isinstance(attributes, dict) else None
    folder = ours.get(_FOLDER) if isinstance(ours, dict) else None
    return place / folder if isinstance(folder, str) and "/" not in folder else place


def sweep(place: Place) -> None:
    """Delete what a replacement has left that was killed after it had taken its place.

    To be called by whoever holds the lease of the place.
    """
    if isinstance(place, Path):
        sidecar = beside(place) / SIDECAR
        unclaimed = not any((sidecar / name).exists() for name in (_PROBLEM, LEASE))
        if beside(place).is_dir() and (unclaimed or (sidecar / _REPLACED).exists()):
            with contextlib.suppress(OSError):
                _delete_former(beside(place))
        return
    left = _table(place / SIDECAR / _NEXT).get(_FOLDER)
    if isinstance(left, str) and place / left == current(place):
        _delete_others(place, left)


def warn_of_writer(place: Place) -> None:
    """Tell whoever reads a store that somebody is writing one that is to replace it."""
    lease = lease_of(place, beside(place) if isinstance(place, Path) else place)
    with contextlib.suppress(KeyError, TypeError, ValueError):
        if is_alive(lease):
            log.warning(
                "%s is being replaced by process %s on %s; what is read here is what was there before",
                place,
                lease["pid"],
                lease["host"],
            )


def lease_of(place: Place, work: Place) -> dict[str, Any]:
    """The lease of whoever writes at ``work``, the place of a store or its replacement; {} if none."""
    return _table((work if isinstance(work, Path) else place) / SIDECAR / LEASE)


class _Beside:
    """A folder on disk, written beside the one that it replaces."""

    work: Path

    def __init__(self, place: Path, held: Lease | None) -> None:
        self.place, self.work = place, beside(place)
        self.lease = Lease(self.work)
        self._held = held is not None
        self._former = held or (Lease(place) if place.exists() else None)

    def begin(self) -> None:
        self._acquire()
        try:
            _empty(self.work)
        except OSError as error:
            self.release()
            raise StorageError(
                f"{self.work}, left by a writer that was interrupted, cannot be deleted ({error}); "
                "if something still writes there, run the same command again when it has ended"
            ) from error

    def resume(self) -> None:
        self._acquire()

    def _acquire(self) -> None:
        if self._former is not None and not self._held:
            self._former.acquire()
        try:
            self.lease.acquire()
        except BaseException:
            if self._former is not None:
                self._former.release()
            raise

    def publish(self, redirect: Redirect) -> None:
        self.lease.check()
        try:
            if self._former is None:
                self._put()
                return
            self._former.check()
            what = _describe(self.place)
            write_bytes(self.place / SIDECAR / _REPLACED, b"{}\n")
            self._put()
        except OSError as error:
            raise write_error(self.place, 4096, error) from error
        self._former.leave()
        log.warning("%s has been replaced; %s that was there is deleted", self.place, what)
        with contextlib.suppress(OSError):
            _delete_former(self.work)

    def _put(self) -> None:
        with self.lease.moving(self.place):
            put_in_place(self.work, self.place)

    def discard(self) -> None:
        # The lease's file goes last: nobody takes the folder for free while it is being deleted.
        with contextlib.suppress(OSError):
            _empty(self.work)
        self.release()
        delete_folder(self.work, ignore_errors=True)

    def release(self) -> None:
        self.lease.release()
        if self._former is not None:
            self._former.release()


class _Within:
    """A folder within a place of an object store."""

    def __init__(self, place: ObjectPath, held: Lease | None) -> None:
        self.place = place
        self.work: Place = place / f"new-{uuid.uuid4().hex[:8]}"
        self.lease, self._held = held or Lease(place), held is not None

    def begin(self) -> None:
        self._acquire()
        try:
            if (left := pending(self.place)) is not None:
                delete_folder(left)
            pointer = json.dumps({_FOLDER: self.work.name}).encode()
            write_bytes(self.place / SIDECAR / _NEXT, pointer)
        except BaseException:
            self.lease.release()
            raise

    def _acquire(self) -> None:
        if not self._held:
            self.lease.acquire()

    def resume(self) -> None:
        self._acquire()
        found = pending(self.place)
        assert found is not None  # whoever resumes has seen it
        self.work = found

    def publish(self, redirect: Redirect) -> None:
        self.lease.check()
        what, folder = _describe(self.place), self.work.name
        document = _table(self.work / _METADATA)
        document["attributes"] = redirect(document["attributes"], folder)
        ours = document["attributes"].setdefault(SIDECAR, {})
        ours[_FOLDER] = folder
        write_bytes(self.place / _METADATA, json.dumps(document).encode())
        log.warning("%s has been replaced; %s that was there is deleted", self.place, what)
        _delete_others(self.place, folder)

    def discard(self) -> None:
        delete_folder(self.work, ignore_errors=True)
        with contextlib.suppress(StorageError):
            delete(self.place / SIDECAR / _NEXT)
        self.release()

    def release(self) -> None:
        self.lease.release()


def _delete_former(folder: Path) -> None:
    """Delete a folder that has been replaced; first what could have it taken for something else."""
    delete(folder / SIDECAR / _PROBLEM)
    delete(folder / SIDECAR / LEASE)
    delete_folder(folder)


def _delete_others(place: Place, folder: str) -> None:
    """Delete what lies in an object store's place beside the folder that has become its content."""
    for name in names(place):
        if name not in (_METADATA, SIDECAR, folder):
            delete_folder(place / name)
            delete(place / name)
    # What says that there is something to be deleted comes last.
    sidecar = place / SIDECAR
    for name in sorted(names(sidecar), key=lambda name: name == _NEXT):
        if name != LEASE:
            delete_folder(sidecar / name)
            delete(sidecar / name)


def _empty(folder: Path) -> None:
    """Delete what is in a folder but for its lease; first the record, so that it is not resumed."""
    for within in (folder / SIDECAR, folder):
        for name in sorted(names(within), key=lambda name: name != _PROBLEM):
            if name in (SIDECAR, LEASE, LOCK):
                continue
            path = within / name
            if path.is_dir() and not path.is_symlink():
                delete_folder(path)
            else:
                delete(path)


def _describe(place: Place) -> str:
    """What lies at a place, in words."""
    attributes = _table(place / _METADATA).get("attributes")
    if isinstance(attributes, dict) and "ome" in attributes:
        return "the volume"
    if isinstance(attributes, dict) and SIDECAR in attributes:
        return "the tilt series"
    return "the Zarr store" if names(place) else "the empty folder"


def _table(place: Place) -> dict[str, Any]:
    """A small JSON file that may be missing or damaged; then it says nothing."""
    try:
        found = json.loads(read_bytes(place) or b"{}")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
