"""Check that a new store can be made at a place, before anything is written there."""

from __future__ import annotations

import os
from pathlib import Path

from ddgm_dist.errors import InputError
from ddgm_dist.paths.exchange import bring_back
from ddgm_dist.paths.files import exists, is_zarr, listdir
from ddgm_dist.paths.place import ObjectPath, Place

__all__ = [
    "LEASE",
    "NEXT",
    "SIDECAR",
    "is_claim",
    "is_empty_folder",
    "prepare_output",
    "refuse_unmovable",
]

SIDECAR, LEASE, NEXT = "ddgm_dist", "lease.json", "next.json"


def prepare_output(target: Place, argument: str, *, overwrite: bool) -> None:
    """Check that a new store can be made at a place; nothing is deleted.

    Nothing may exist there but a store that may be replaced, or the claim of a writer that was
    interrupted at once. Folders above the place are made.

    Raises
    ------
    InputError
        Something exists there and ``overwrite`` is false, or it cannot be renamed. What exists is
        not a Zarr store, which is never deleted. The folder above it cannot be written.
    StorageError
        The object store does not answer.
    """
    if isinstance(target, Path) and not target.exists():
        bring_back(target)  # a writer may have been killed since it was located
    if exists(target) and not is_claim(target):
        if not overwrite:
            raise InputError(
                argument,
                str(target),
                "exists already",
                "choose another name, or replace it with --overwrite",
            )
        if not (is_zarr(target) or is_empty_folder(target)):
            raise InputError(
                argument, str(target), "is not a Zarr store, so it is not deleted to make room"
            )
    if isinstance(target, ObjectPath):
        return  # it has no folders to be made, and no permissions to be looked up
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            argument, str(target), f"its folder cannot be made ({error.strerror})"
        ) from error
    refuse_unmovable(target, argument)


def is_claim(place: Place) -> bool:
    """Return whether a place holds only a claim: the files of a writer that has written no data yet."""
    if listdir(place) != [SIDECAR]:
        return False
    # The lock and temporary files of a killed writer do not count.
    left = {n for n in listdir(place / SIDECAR) if not n.startswith(".") and ".__lock" not in n}
    return left <= {LEASE, NEXT}


def refuse_unmovable(place: Path, argument: str) -> None:
    """Refuse a folder that cannot be renamed, so that no other can take its place.

    Raises
    ------
    InputError
        A file system is mounted there, or the folder above it is not writable.
    """
    if place.is_mount():
        raise InputError(
            argument,
            str(place),
            "is where a file system is mounted, so it cannot be replaced by renaming",
            "choose a name below it",
        )
    if not os.access(place.parent, os.W_OK):
        raise InputError(argument, str(place), "its folder is not writable")


def is_empty_folder(place: Place) -> bool:
    """Return whether a place is a folder with nothing in it; object stores have none."""
    return isinstance(place, Path) and place.is_dir() and not listdir(place)
