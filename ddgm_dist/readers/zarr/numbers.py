"""Numbers that a Zarr store gives for a stack: its angles, and which of its files are there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.object_store import list_keys
from ddgm_dist.paths.place import Place
from ddgm_dist.paths.zarr_store import refuse_pickles
from ddgm_dist.readers.angles import as_angles
from ddgm_dist.readers.stacks.axes import StackAxes
from ddgm_dist.readers.stacks.names import ANGLE_NAMES, unit_by_name
from ddgm_dist.readers.units import angles_in_degrees
from ddgm_dist.readers.zarr.search import Found, child

__all__ = ["missing_files", "read_angles_beside"]

# Files that are looked for at most, on a disk and in an object store.
_ON_DISK, _IN_BUCKET = 100_000, 20_000


def read_angles_beside(
    found: Found, group: zarr.Group | None, count: int, notes: list[str]
) -> tuple[tuple[float, ...], str] | None:
    """Angles of the projections in degrees, and where they come from; None without any.

    An array beside the projections comes first, then an attribute of theirs, then one of the group.

    Parameters
    ----------
    found
        The projections.
    group
        The group that they lie in.
    count
        Number of projections.
    notes
        Gets what was decided.

    Raises
    ------
    InputError
        There are more or fewer angles than projections, or their unit is not clear.
    """
    lists = list(_lists(found, group))
    if not lists:
        names = " or ".join(ANGLE_NAMES[:3])
        notes.append(f"no angles: no array or attribute named {names} beside {found.place}")
        return None
    fitting = [entry for entry in lists if len(entry[1]) == count]
    if not fitting:
        where, values, _ = lists[0]
        raise InputError(
            "angles",
            where,
            f"holds {len(values)} angles, and {found.place} {found.array.shape} has {count} projections",
            "give --angles FILE with one angle for each projection",
        )
    where, values, unit = fitting[0]
    degrees, how = angles_in_degrees(values, unit, where)
    notes += [
        f"{other} with {len(given)} angles: not used"
        for other, given, _ in lists
        if other != where and (len(given) != count or given != values)
    ]
    return degrees, f"{where}, {how}"


def _lists(found: Found, group: zarr.Group | None) -> Iterator[tuple[str, tuple[float, ...], str]]:
    """Lists that may be the angles: where each is, its values and its unit."""
    around = found.place.parent
    for name in ANGLE_NAMES if group is not None else ():
        array = None if group is None else child(group, name, around)
        if isinstance(array, zarr.Array) and array.ndim == 1:
            where = f"{around / name}"
            unit = _unit(array.attrs.asdict(), ("units", "unit")) or unit_by_name(name)
            yield where, as_angles(_values(array, where), where), unit
    for holder, what in ((found.array, f"{found.place}"), (group, f"{around}")):
        attributes = {} if holder is None else holder.attrs.asdict()
        for name in ANGLE_NAMES:
            value = attributes.get(name)
            if isinstance(value, list) and len(value) > 1:
                where = f"attribute {name} of {what}"
                keys = (f"{name}_units", f"{name}_unit", "angle_units", "angle_unit")
                unit = _unit(attributes, keys) or unit_by_name(name)
                yield where, as_angles(value, where), unit


def _unit(attributes: dict[str, Any], keys: tuple[str, ...]) -> str:
    return next((str(attributes[key]) for key in keys if attributes.get(key)), "")


def _values(array: zarr.Array[Any], where: str) -> Any:
    refuse_pickles(array, "angles", where)
    try:
        return np.asarray(array[:])
    except StorageError:
        raise
    except Exception as error:  # codecs and stores raise their own types
        raise InputError("angles", where, f"cannot be read ({error})") from error


def missing_files(array: zarr.Array[Any], place: Place, axes: StackAxes) -> list[str]:
    """Chunks, or shards, that are not there and read as the fill value, as a note; none if all are.

    Parameters
    ----------
    array, place
        The array, and its place.
    axes
        Its axes, to say which images have none.

    Raises
    ------
    InputError
        Nothing was ever written.
    """
    files = array.shards or array.chunks
    grid = [range(-(-n // size)) for n, size in zip(array.shape, files, strict=True)]
    total = math.prod(map(len, grid))
    if total > (_ON_DISK if isinstance(place, Path) else _IN_BUCKET):
        return [f"{place}: whether its {total} files are all there was not looked at"]
    key = array.metadata.encode_chunk_key
    if isinstance(place, Path):
        gone = [at for at in itertools.product(*grid) if not (place / key(at)).is_file()]
    else:
        there = {*list_keys(place)}
        gone = [at for at in itertools.product(*grid) if key(at) not in there]
    if gone and len(gone) == total:
        raise InputError(
            "source", str(place), f"has a shape and no values: none of its {total} files is there"
        )
    if not gone:
        return []
    tilt, absent = axes.order[0], {*gone}
    partly = {at[tilt] for at in itertools.product(*grid) if at not in absent}
    step, count = files[tilt], array.shape[tilt]
    images = [i for i in range(count) if i // step not in partly]
    shown = ""
    if images:
        shown = f"; {len(images)} of {count} images have none, the first is {images[0]}"
        shown += " (counted from 0)"
    return [
        f"{place}: {len(gone)} of {total} files are not there and read as the fill value "
        f"{array.fill_value}{shown}"
    ]
