"""Progress of a run, read from its output store alone, also while it runs elsewhere.

The run may replace and delete files at any moment. A value that is missing or cannot be read is
unknown; only a damaged ``problem.json`` or ``state.json`` is an error.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.inspection.run_status import CheckpointStatus, Status
from ddgm_dist.paths.claim import is_claim
from ddgm_dist.paths.files import exists
from ddgm_dist.paths.locate import locate
from ddgm_dist.planning.presets import PresetUse
from ddgm_dist.planning.start_in_words import start_in_words
from ddgm_dist.records.checkpoint import COMMITS
from ddgm_dist.records.fit import Fit
from ddgm_dist.records.json_files import problem_dir
from ddgm_dist.records.lease_holder import is_alive, is_stopped, lease_of
from ddgm_dist.records.receipts import RECEIPTS, SAMPLE_RECEIPTS
from ddgm_dist.records.result import work_place
from ddgm_dist.records.run_record import COMPLETE, RunRecord

__all__ = ["status"]


def status(out: str | Path) -> Status:
    """Read how far a run is.

    Raises
    ------
    InputError
        ``out`` is not the output of a run.
    StorageError
        Its record is damaged.
    """
    place = locate(out, "out")
    work = work_place(place)
    record = RunRecord(work)
    # The lease is read first: a driver marks the volume as complete before it releases the lease. So a
    # run that ends between the two reads is not taken for an interrupted one.
    lease = lease_of(place)
    alive = _alive(lease)
    problem, state = record.read_problem(), record.read_state()
    if problem is None and not alive:
        if not exists(place):
            raise InputError(
                "out",
                str(out),
                "does not exist",
                "correct the path; a run that was interrupted before it had written anything leaves "
                "nothing there, so start it again",
            )
        # A driver that was killed as it began leaves its lease, and nothing else.
        if not (lease and is_claim(place)):
            raise InputError("out", str(out), "holds no record of a reconstruction")
    complete = state is not None and state["state"] == COMPLETE
    plan, progress = _table(record, "plan"), _table(record, "progress")
    digest = "" if state is None else state["problem"]
    kinds = (RECEIPTS, SAMPLE_RECEIPTS) if digest else ()
    receipts = sum(len(record.names(problem_dir(kind, digest))) for kind in kinds)
    now = time.time()
    tiles = int(_number(plan, "tiles") or _number(progress, "tiles") or 0)
    done, total = _number(progress, "voxels_done") or 0.0, _number(progress, "voxels_total")
    rate = _number(progress, "rate") or None
    running = alive and not complete
    checkpoints = tuple(_checkpoints(record, digest, now)) if digest and not complete else ()
    return Status(
        path=str(out),
        work=str(work),
        replaces=work != place,
        state="complete" if complete else "running" if alive else "interrupted",
        tiles_done=tiles if complete else min(receipts, tiles) if tiles else receipts,
        tiles=tiles or receipts,
        samples=_count(plan, "samples") or 1,
        fraction=1.0 if complete else min(1.0, done / total) if total else 0.0,
        iterations=None if complete else _span(progress),
        iterations_total=_count(plan, "iterations"),
        iteration=_count(progress, "iteration"),
        sigma=_number(progress, "sigma"),
        residual=_number(progress, "residual"),
        rate=rate,
        eta_seconds=max(0.0, total - done) / rate if rate and total and running else None,
        workers=_count(progress, "workers"),
        losses=_count(progress, "losses") or 0,
        repeated=_count(progress, "repeated") or 0,
        holder=_holder(lease) if running else None,
        checkpoints=checkpoints,
        checkpoint_age=max((c.age for c in checkpoints), default=None),
        updated=_age(progress, "updated", now),
        last_event=_age(progress, "last_event", now),
        fit=Fit.from_dict(_table(record, "provenance").get("fit")) if complete else None,
        start=start_in_words(problem or {}) or None,
        preset=PresetUse.from_dict(plan.get("preset")),
    )


def _checkpoints(record: RunRecord, digest: str, now: float) -> list[CheckpointStatus]:
    """Newest checkpoints of all units; one that has finished meanwhile has none."""
    found, commits = [], problem_dir(COMMITS, digest)
    for unit in record.names(commits):
        commit = _table(record, f"{commits}/{unit}")
        made, generations = _number(commit, "time"), commit.get("generations")
        if made is not None and isinstance(generations, list) and generations:
            newest = generations[0]
            iteration = _count(newest, "iteration") if isinstance(newest, dict) else None
            found.append(CheckpointStatus(unit, iteration or 0, max(0.0, now - made)))
    return found


def _holder(lease: Mapping[str, Any]) -> str:
    """Process and host that hold a lease."""
    stopped = ", which is stopped (SIGSTOP)" if is_stopped(dict(lease)) else ""
    return f"process {lease.get('pid')} on {lease.get('host')}{stopped}"


def _alive(lease: Mapping[str, Any]) -> bool:
    try:
        return is_alive(dict(lease))
    except (KeyError, TypeError, ValueError):  # none, or not readable
        return False


def _table(record: RunRecord, name: str) -> Mapping[str, Any]:
    """A file of the record; empty if it is missing, or just being replaced."""
    try:
        found = record.read_json(name)
    except StorageError:
        return {}
    return found if isinstance(found, dict) else {}


def _number(table: Mapping[str, Any], key: str) -> float | None:
    value = table.get(key)
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if good else None


def _count(table: Mapping[str, Any], key: str) -> int | None:
    value = _number(table, key)
    return None if value is None else int(value)


def _age(table: Mapping[str, Any], key: str, now: float) -> float | None:
    """Age in seconds; not below 0, for clocks of two hosts may differ."""
    value = _number(table, key)
    return None if value is None else max(0.0, now - value)


def _span(progress: Mapping[str, Any]) -> tuple[int, int] | None:
    match progress.get("iterations"):
        case [int(least), int(most)]:
            return least, most
    return None
