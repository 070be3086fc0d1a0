"""Refuse an output that is, contains, or lies in one of its inputs.

Files and folders are compared by device and inode, not by name. So links, ``..``, names in other cases,
and folders that are mounted twice make no difference. Object stores are compared by bucket and key.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ddgm_dist.errors import InputError
from ddgm_dist.paths.exchange import others_of
from ddgm_dist.paths.mounts import spot, spots_below
from ddgm_dist.paths.place import ObjectPath, Place

__all__ = ["refuse_overlap"]

Identity = tuple[int, int] | str


def refuse_overlap(out: Place, argument: str, inputs: Iterable[tuple[str, Place]]) -> None:
    """Refuse an output that would destroy what it is made from.

    Parameters
    ----------
    out
        Place of the output; it need not exist.
    argument
        Name of the output, for messages.
    inputs
        Name and place of each input.

    Raises
    ------
    InputError
        ``out`` is one of the inputs, contains it or lies in it. The same goes for the folders beside
        ``out`` in which its replacement is written and where the former one is put aside.
    """
    places: list[Place] = [out]
    if isinstance(out, Path):
        places += others_of(out)
    for name, source in inputs:
        for place in places:
            relation = _relation(place, source)
            if relation:
                raise InputError(
                    argument,
                    str(out),
                    f"{relation} the input {name} = {source}, which writing it would destroy",
                    "choose an output that lies elsewhere",
                )


def _relation(out: Place, source: Place) -> str:
    """The relation of an output to an input, as a verb; empty if they are apart."""
    ours, theirs = _line(out), _line(source)
    if ours[0] is not None and ours[0] == theirs[0]:
        return "is"
    if theirs[0] is not None and theirs[0] in ours[1:]:
        return "lies in"
    if ours[0] is not None and ours[0] in theirs[1:]:
        return "contains"
    if isinstance(out, Path) and isinstance(source, Path):
        return _relation_by_mounts(out, source)
    return ""


def _relation_by_mounts(out: Path, source: Path) -> str:
    """The relation of paths that are or lie in mounted folders, or do not exist yet."""
    ours, theirs = spot(out), spot(source)
    if ours == theirs:
        return "is"
    if ours.within(theirs):
        return "lies in"
    if theirs.within(ours):
        return "contains"
    # What is mounted within the output is deleted with it.
    for seen in spots_below(out):
        if theirs.within(seen) or seen.within(theirs):
            return "contains, by a mount, some or all of"
    return ""


def _line(place: Place) -> list[Identity | None]:
    """Identity of a place and of each folder above it; None where it does not exist yet."""
    if isinstance(place, ObjectPath):
        parts = [part for part in place.key.split("/") if part not in ("", ".")]
        keys = ("/".join(parts[:n]) for n in range(len(parts), 0, -1))
        return [f"{place.scheme}://{place.bucket}/{key}" for key in keys]
    return [_identity(path) for path in (place, *place.parents)]


def _identity(path: Path) -> Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
