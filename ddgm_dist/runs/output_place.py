"""Decide whether a run may write at a place: new, its own, or one that it replaces."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ddgm_dist.errors import InputError
from ddgm_dist.paths.claim import (
    SIDECAR,
    is_claim,
    is_empty_folder,
    prepare_output,
    refuse_unmovable,
)
from ddgm_dist.paths.exchange import bring_back
from ddgm_dist.paths.files import exists, is_zarr, listdir
from ddgm_dist.paths.place import Place
from ddgm_dist.paths.safety import refuse_links
from ddgm_dist.planning.config import RENAMED
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.problem_changes import changes, differences
from ddgm_dist.records.damage import log_damage
from ddgm_dist.records.lease import Lease
from ddgm_dist.records.replacement import Replacement, abandon, content_of, pending, sweep
from ddgm_dist.records.run_record import RunRecord

__all__ = ["check_ours", "check_same", "is_of", "replacement_of"]

# Changes of a problem that a message lists.
_SHOWN = 4


def replacement_of(
    place: Place, held: Lease, problem: Problem, *, overwrite: bool
) -> Replacement | None:
    """The replacement of another output by this one, begun or resumed; None if there is none."""
    if is_claim(place):
        abandon(place)
        return None
    sweep(place)
    left = pending(place)
    resumed = left is not None and is_of(left, problem)
    swap = Replacement(place, held)
    # A replacement that --overwrite began is resumed without it too.
    if resumed and (overwrite or not is_of(content_of(place), problem)):
        swap.resume()
    elif overwrite:
        swap.begin()
    else:
        return None
    return swap


def is_of(place: Place, problem: Problem) -> bool:
    """Return whether the output at a place belongs to a problem; one with a damaged record does not."""
    with log_damage():
        record = RunRecord(place)
        saved = record.read_problem()
        record.read_state()
        return saved is not None and not differences(saved, problem.to_dict())
    return False


def check_ours(place: Place, *, overwrite: bool) -> None:
    """Refuse a place that holds something else than the output of a run, before any write.

    Raises
    ------
    InputError
        It is no Zarr store, or no output of a run and ``overwrite`` is false; or it cannot be written.
    """
    if isinstance(place, Path) and not place.exists():
        bring_back(place)  # a driver may have been killed since it was located
    if not exists(place):
        prepare_output(place, "out", overwrite=False)
        return
    refuse_links(place, "out")
    # A run that was interrupted at once has left only its lease.
    ours = listdir(place) == [SIDECAR] or RunRecord(place).has("problem")
    if ours and isinstance(place, Path) and not os.access(place, os.W_OK):
        raise InputError("out", str(place), "is not writable")
    if ours and not overwrite:
        return
    if overwrite and (ours or is_zarr(place) or is_empty_folder(place)):
        if isinstance(place, Path):
            refuse_unmovable(place, "out")
        return
    raise InputError(
        "out",
        str(place),
        "is not a Zarr store, so it is not deleted to make room"
        if overwrite
        else "exists and holds no record of a reconstruction",
        "choose another name" + ("" if overwrite else ", or replace it with --overwrite"),
    )


def check_same(saved: dict[str, Any], ours: dict[str, Any], out: str) -> None:
    """Raise InputError, with the changes, unless an output's problem is the one to be solved."""
    if not differences(saved, ours):
        return
    former = sorted(set(saved.get("config", {})) & set(RENAMED))
    if former:
        raise InputError(
            "out",
            out,
            f"was begun by a former version, whose keys had other names ({', '.join(former)})",
            "finish it with that version, choose another name, or replace it with --overwrite",
        )
    changed, settings = changes(saved, ours)
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    back = ""
    if 0 < len(settings) == len(changed) <= _SHOWN:
        back = f"resume it with {' '.join(f'--set {each}' for each in settings)}, or "
    raise InputError(
        "out",
        out,
        f"holds another problem's result; changed: {'; '.join(changed[:_SHOWN])}{more}",
        f"{back}choose another name, or replace it with --overwrite",
    )
