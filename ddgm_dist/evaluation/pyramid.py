"""The multiscale pyramid of a finished result: coarser levels, for viewers.

Each level has half the extent of the one before along y and x, rounded up. A voxel is the mean of the
two to eight voxels under it, or of fewer at an edge of odd extent. Along z a level is halved only while
it has more than 64 sections, so that viewers keep some to step through. An axis of one voxel stays. A
coarse voxel over a NaN is NaN.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.core.parallel import Runner
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.locate import locate
from ddgm_dist.paths.place import Place
from ddgm_dist.ray_engine.parallel_map import SchedulerName, open_scheduler
from ddgm_dist.records.lease import Lease
from ddgm_dist.records.result import open_result_at
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.volumes.levels import Level, create_level, delete_level, name_levels, named_levels
from ddgm_dist.volumes.store import VolumeStore, open_volume_store

__all__ = ["build_pyramid", "plan_levels"]

Floats = NDArray[np.float32]

_RECORD = "pyramid"
# Sections kept, and the extent along y and x below which no more levels are made by default.
_SECTIONS, _SMALL = 64, 256


def build_pyramid(
    path: str | Path,
    *,
    levels: int | None = None,
    scheduler: SchedulerName = "threads",
    address: str | None = None,
    overwrite: bool = False,
) -> tuple[Level, ...]:
    """Add coarser levels to a finished result.

    A task computes one shard of 2^20 voxels from eight times as many of the level before. So memory
    does not depend on the volume. The metadata name the levels when all are whole. Until then the
    result stays a valid image of one level, and after an interruption the same call resumes.

    Parameters
    ----------
    path
        A finished result of `ddgm_dist.runs.reconstruct`.
    levels
        Number of levels to add; None: until neither y nor x has more than 256 voxels, maybe none.
    scheduler
        Place of the tasks: ``threads`` of this process, one after the other (``sync``), or ``ray``.
    address
        Address of a Ray cluster. None uses the Ray this process is connected to, or starts one on
        this machine for the time of the call.
    overwrite
        Replace a pyramid that is there, when the new one is whole.

    Returns
    -------
    tuple of Level
        All levels, the finest first.

    Raises
    ------
    InputError
        There is no result, another process writes to it, or it has a pyramid already and ``overwrite``
        is false. ``levels`` is not positive or more than the extent allows. The scheduler or the
        address cannot be used.
    StorageError
        The result is not whole or cannot be read, or the levels cannot be written.
    """
    place = locate(path, "volume")
    _check_free(open_result_at(place), overwrite=overwrite)
    with open_scheduler(scheduler, address) as run, Lease(place) as lease:
        store = open_result_at(place)  # again, now that no other process can write
        _check_free(store, overwrite=overwrite)
        finest, *former = named_levels(store)
        planned = plan_levels(store.shape, finest, levels, taken=former)
        _check_whole(store)
        if len(planned) > 1:
            _prepare(store, planned, former)
            for fine, coarse in itertools.pairwise(planned):
                _fill(_Step(place, fine, coarse), run)
                lease.check()
            name_levels(store, planned)
            for name in former:
                delete_level(store.place, name)
    return planned


def plan_levels(
    shape: Triple, finest: str, levels: int | None, *, taken: Sequence[str] = ()
) -> tuple[Level, ...]:
    """The levels of a pyramid over a volume of a shape ``(z, y, x)``, the finest first.

    Parameters
    ----------
    shape, finest
        Extent and name of the finest level.
    levels
        Number of levels to add; None: until neither y nor x has more than 256 voxels.
    taken
        Names of levels that these are to replace; they stay until the new ones are whole.

    Raises
    ------
    InputError
        ``levels`` is not positive, or there is nothing left to halve.
    """
    if levels is not None and levels < 1:
        raise InputError("levels", levels, "must be at least 1")
    mark = "" if "1" not in taken else "b"
    planned = [Level(finest, (1, 1, 1), shape)]
    while len(planned) - 1 != levels:
        last = planned[-1]
        z, y, x = last.shape
        if levels is None and max(y, x) <= _SMALL:
            break
        halved = (z > _SECTIONS, y > 1, x > 1)
        if not any(halved):
            raise InputError(
                "levels", levels, f"a volume of {shape} has no more than {len(planned) - 1}"
            )
        factor = [f * (1 + half) for f, half in zip(last.factor, halved, strict=True)]
        extent = [-(-n // (1 + half)) for n, half in zip(last.shape, halved, strict=True)]
        name = str(len(planned)) + mark
        planned.append(
            Level(name, (factor[0], factor[1], factor[2]), (extent[0], extent[1], extent[2]))
        )
    return tuple(planned)


def _check_free(store: VolumeStore, *, overwrite: bool) -> None:
    there = len(named_levels(store)) - 1
    if there and not overwrite:
        raise InputError(
            "volume", store.path, f"has a pyramid of {there} levels already", "overwrite it"
        )


def _check_whole(store: VolumeStore) -> None:
    """Raise StorageError if a shard of level 0 is missing: it would be averaged into the pyramid."""
    lost = _lost(store)
    if lost:
        raise StorageError(
            f"{store.path} has lost {len(lost)} shards, among them {lost[0]} (z, y, x); run "
            "reconstruct again on the same output to compute them"
        )


def _lost(store: VolumeStore) -> list[Triple]:
    """Indices ``(z, y, x)`` of the missing shards."""
    return [(z, y, x) for z, y, x in np.argwhere(~store.shards()).tolist()]


def _prepare(store: VolumeStore, planned: tuple[Level, ...], former: Sequence[str]) -> None:
    """Make the levels' arrays, or keep those of an interrupted call with the same plan."""
    record = RunRecord(store.place)
    state = record.read_state()
    wanted = {
        "problem": None if state is None else state["problem"],
        "levels": [[level.name, list(level.factor), list(level.shape)] for level in planned],
        "former": list(former),
    }
    found = record.read_json(_RECORD)
    if found == wanted:
        return
    record.delete(_RECORD)
    found = found or {"levels": []}
    for name in [*(name for name, *_ in found["levels"][1:]), *found.get("former", [])]:
        if name not in former:
            delete_level(store.place, name)
    for level in planned[1:]:
        create_level(store.place, level.name, level.shape)
    record.write_json(_RECORD, wanted)  # last: what it names is there, and is this plan's


@dataclass(frozen=True)
class _Step:
    """From one level of a store to the next."""

    place: Place
    fine: Level
    coarse: Level

    @property
    def factor(self) -> Triple:
        """Fine voxels along each axis in a coarse one."""
        z, y, x = (b // a for a, b in zip(self.fine.factor, self.coarse.factor, strict=True))
        return (z, y, x)


def _fill(step: _Step, run: Runner) -> None:
    """Write the missing shards of a level, each by one task."""
    store = open_volume_store(step.place, level=step.coarse.name)
    for _ in run(_fill_shard, step, _lost(store)):
        pass  # so that errors are raised
    if lost := _lost(open_volume_store(step.place, level=step.coarse.name)):
        raise StorageError(f"{step.place}: {len(lost)} shards of level {step.coarse.name} are gone")


def _fill_shard(step: _Step, index: Triple) -> None:
    source = open_volume_store(step.place, level=step.fine.name)
    target = open_volume_store(step.place, "r+", level=step.coarse.name)
    start = [i * s for i, s in zip(index, target.layout.shard, strict=True)]
    stop = [min(a + s, n) for a, s, n in zip(start, target.layout.shard, target.shape, strict=True)]
    low = [a * f for a, f in zip(start, step.factor, strict=True)]
    high = [min(b * f, n) for b, f, n in zip(stop, step.factor, source.shape, strict=True)]
    block = source.read(Box((low[0], low[1], low[2]), (high[0], high[1], high[2])))
    for axis, factor in enumerate(step.factor):
        if factor == 2:
            block = _halved(block, axis)
    target.write(Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])), block)


def _halved(block: Floats, axis: int) -> Floats:
    """Means of pairs along an axis; a last one without a partner stays as it is."""
    moved = np.moveaxis(block, axis, 0)
    even, odd = moved[0::2].copy(), moved[1::2]
    pairs = even[: len(odd)]
    with np.errstate(invalid="ignore", over="ignore"):  # infinite voxels come from the volume
        pairs += odd
        pairs *= np.float32(0.5)
    return np.moveaxis(even, 0, axis)
