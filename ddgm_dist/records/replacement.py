"""Replacing a store: the former one stays whole until the new one is, and is deleted last.

On disk the new store is written to a folder beside the place, which then takes the place in one step
(`ddgm_dist.paths.exchange`). In an object store nothing can be renamed. There the new store is written
to a folder within the place, and one write of the place's ``zarr.json`` redirects readers to it.

The writer holds the lease of the place, which is made for it if need be. The file ``next.json`` beside
the lease names the folder that is being written, or the former store that is to be deleted. Nothing
else is ever deleted. An unfinished replacement with a record of a run can be resumed (`pending`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ddgm_dist.errors import StorageError
from ddgm_dist.paths.claim import LEASE, NEXT, SIDECAR, is_claim
from ddgm_dist.paths.exchange import beside, delete_aside, put_in_place, refuse_in_the_way
from ddgm_dist.paths.files import delete, delete_folder, listdir, write_bytes
from ddgm_dist.paths.free_space import write_error
from ddgm_dist.paths.place import Place
from ddgm_dist.records.json_files import read_table
from ddgm_dist.records.lease import Lease

__all__ = ["Redirect", "Replacement", "abandon", "content_of", "pending", "sweep"]

# Turns a group's attributes into those of a group whose arrays lie in one of its folders.
Redirect = Callable[[dict[str, Any], str], dict[str, Any]]

_METADATA, _NEXT = "zarr.json", NEXT
_FOLDER, _FORMER = "folder", "former"
_OURS = r"zarr\.json|ddgm_dist|projections|std|[0-9]+b?|new-[0-9a-f]{8}"

log = logging.getLogger("ddgm_dist")


class Replacement:
    """A store that is being written, and the place that it is to take.

    Parameters
    ----------
    place
        Place of the former store; it may be empty.
    held
        The lease of the place, if it has been acquired; the replacement releases it.

    Attributes
    ----------
    work
        Place where the new store is written; no other writer uses it.
    lease
        Lease of the place, to be checked before each write.
    """

    def __init__(self, place: Place, held: Lease | None = None) -> None:
        self.place, self.work = place, _named(place, f"new-{uuid.uuid4().hex[:8]}")
        self.lease, self._held = held or Lease(place), held is not None
        self._published = self._ended = self._new = False

    def begin(self) -> None:
        """Acquire the lease, and delete an unfinished replacement.

        Raises
        ------
        InputError
            Another process writes there.
        StorageError
            The place cannot be written.
        """
        self._acquire()
        try:
            if isinstance(self.place, Path):
                refuse_in_the_way(self.place)
            self.lease.check()
            abandon(self.place)
            self._new = is_claim(self.place)
            self._point(self.place, _FOLDER)
        except OSError as error:
            self.release()
            raise write_error(self.place, 4096, error) from error
        except BaseException:
            self.release()
            raise

    def resume(self) -> None:
        """Acquire the lease, and resume the unfinished replacement; raises as `begin` does."""
        self._acquire()
        left = pending(self.place)
        if left is None:
            self.release()
            raise StorageError(
                f"{self.place}: what was to replace it is gone; run the command again"
            )
        self.work, self._new = left, is_claim(self.place)

    def _acquire(self) -> None:
        if not self._held:
            self.lease.acquire()
            self._held = True

    def _point(self, place: Place, key: str) -> None:
        write_bytes(place / SIDECAR / _NEXT, json.dumps({key: self.work.name}).encode())

    def publish(self, redirect: Redirect) -> None:
        """Put the new store, which is whole, in its place, and delete the former one.

        Parameters
        ----------
        redirect
            For object stores: adapts the attributes to arrays that lie in a folder.

        Raises
        ------
        StorageError
            Another process has taken the place meanwhile, or it cannot be written.
        """
        self.lease.check()
        if self._new and not is_claim(self.place):
            raise StorageError(
                f"{self.place} was made by another process meanwhile, and is not replaced; choose "
                "another name"
            )
        what = _describe(self.place)
        if isinstance(self.place, Path) and isinstance(self.work, Path):
            self._exchange(self.place, self.work)
        else:
            self._lead(redirect)
        if what:
            log.warning("%s has been replaced; %s that was there is deleted", self.place, what)
        try:
            sweep(self.place)
        except (OSError, StorageError) as error:
            log.warning(
                "%s is whole, but what was there before could not be deleted (%s); the next run on "
                "it tries again",
                self.place,
                error,
            )

    def _exchange(self, place: Path, work: Path) -> None:
        try:
            self._point(work, _FORMER)
            with self.lease.carried(work):
                put_in_place(work, place)
                self._published = True
        except OSError as error:
            raise write_error(place, 4096, error) from error

    def _lead(self, redirect: Redirect) -> None:
        folder, document = self.work.name, read_table(self.work / _METADATA)
        document["attributes"] = redirect(document["attributes"], folder)
        document["attributes"].setdefault(SIDECAR, {})[_FOLDER] = folder
        # Set before the write: if that is interrupted, readers may follow it already.
        self._published = True
        try:
            write_bytes(self.place / _METADATA, json.dumps(document).encode())
        except StorageError:
            # The server may have written, and its answer be lost.
            self._published = content_of(self.place) == self.work
            if not self._published:
                raise

    def discard(self) -> None:
        """Delete the new store, unless it has been published, and release the lease."""
        if self._ended:
            return
        if not self._published:
            delete_folder(self.work, ignore_errors=True)
            ours = read_table(self.place / SIDECAR / _NEXT).get(_FOLDER) == self.work.name
            if ours and not self.lease.lost:
                with contextlib.suppress(OSError, StorageError):
                    delete(self.place / SIDECAR / _NEXT)
        self.release()

    def release(self) -> None:
        """Release the lease; the new store stays, to be resumed."""
        self._ended = True
        self.lease.release()


def _named(place: Place, name: str) -> Place:
    """The folder of a replacement: beside the place on disk, within it in an object store."""
    return beside(place, name) if isinstance(place, Path) else place / name


def _pointed(place: Place, key: str) -> Place | None:
    """The folder that ``next.json`` names under a key, if its name is that of a replacement."""
    name = read_table(place / SIDECAR / _NEXT).get(key)
    start = re.escape(f".{place.name}.") if isinstance(place, Path) else ""
    if not isinstance(name, str) or not re.fullmatch(f"{start}new-[0-9a-f]{{8}}", name):
        return None
    return place.with_name(name) if isinstance(place, Path) else place / name


def pending(place: Place) -> Place | None:
    """Place of the unfinished replacement of a store; None if there is none."""
    found = _pointed(place, _FOLDER)
    if found is None or found == content_of(place):
        return None
    return found if not isinstance(found, Path) or found.is_dir() else None


def content_of(place: Place) -> Place:
    """Place of a store's record and arrays: the store's own, or a folder within it."""
    if isinstance(place, Path):
        return place
    attributes = read_table(place / _METADATA).get("attributes")
    ours = attributes.get(SIDECAR) if isinstance(attributes, dict) else None
    folder = ours.get(_FOLDER) if isinstance(ours, dict) else None
    return place / folder if isinstance(folder, str) and "/" not in folder else place


def abandon(place: Place) -> None:
    """Delete an unfinished replacement; the caller holds the lease of the place.

    Raises
    ------
    OSError, StorageError
        It cannot be deleted.
    """
    sweep(place)
    if (left := pending(place)) is not None:
        delete_folder(left)
        delete(place / SIDECAR / _NEXT)


def sweep(place: Place) -> None:
    """Delete the former store, if a replacement was interrupted while it deleted it.

    The caller holds the lease of the place.

    Raises
    ------
    OSError, StorageError
        It cannot be deleted.
    """
    if isinstance(place, Path):
        delete_aside(place)
        if (former := _pointed(place, _FORMER)) is not None:
            delete_folder(former)
            delete(place / SIDECAR / _NEXT)
        return
    if _pointed(place, _FOLDER) == (found := content_of(place)) != place:
        _delete_others(place, found.name)


def _delete_others(place: Place, folder: str) -> None:
    """Delete what lies in a place beside the folder that has become its content."""
    others = [name for name in listdir(place) if name not in (_METADATA, SIDECAR, folder)]
    for name in others:  # metadata first: without them a reader of the former arrays fails
        for inner in ("", *listdir(place / name)):
            for metadata in (_METADATA, ".zarray"):
                delete(place / name / inner / metadata if inner else place / name / metadata)
    for name in others:
        delete_folder(place / name)
        delete(place / name)
    # ``next.json`` is last: it says that something is left to be deleted.
    sidecar = place / SIDECAR
    for name in sorted(listdir(sidecar), key=lambda name: name == _NEXT):
        if name != LEASE:
            delete_folder(sidecar / name)
            delete(sidecar / name)


def _describe(place: Place) -> str:
    """Description of what lies at a place; empty if that is only a claim."""
    there = listdir(place)
    if is_claim(place) or not there:
        return ""
    attributes = read_table(place / _METADATA).get("attributes")
    kinds = {"ome": "the volume", SIDECAR: "the tilt series"}
    found = [
        what for key, what in kinds.items() if isinstance(attributes, dict) and key in attributes
    ]
    # Files that this package does not write are named.
    others = [name for name in there if not re.fullmatch(_OURS, name)]
    more = f" (and in it {', '.join(others[:3])}{', ...' * (len(others) > 3)})" if others else ""
    return f"{found[0] if found else 'the Zarr store'}{more}"
