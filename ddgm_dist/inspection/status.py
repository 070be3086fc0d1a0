"""How far a run is, from its output store alone, also while it goes on elsewhere. Nothing is written.

Files are replaced and deleted by the run at any moment. What is not essential is taken as unknown
when it is missing or cannot be read; only a damaged `problem.json` or `state.json` is an error.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ddgm_dist.core.units import format_duration
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.locate import locate
from ddgm_dist.records.checkpoint import COMMITS
from ddgm_dist.records.json_files import problem_dir
from ddgm_dist.records.lease import is_alive, is_stopped
from ddgm_dist.records.receipts import RECEIPTS, SAMPLE_RECEIPTS
from ddgm_dist.records.replacement import lease_of
from ddgm_dist.records.result import written_at
from ddgm_dist.records.run_record import COMPLETE, RunRecord

__all__ = ["CheckpointStatus", "Status", "status"]

State = Literal["complete", "running", "interrupted"]


@dataclass(frozen=True)
class CheckpointStatus:
    """The newest checkpoint of a unit: coupled tiles, or one that is not.

    Attributes
    ----------
    unit, iteration
        Name; iterations done.
    age
        Seconds since it was committed.
    """

    unit: str
    iteration: int
    age: float


@dataclass(frozen=True)
class Status:
    """What the store tells of a run; None is unknown. Ages in seconds.

    Attributes
    ----------
    path
        Of the output.
    work
        Where the run writes: the output, or what is to replace it.
    replaces
        Whether the run is to replace a result that is there until then; all else is told of the run.
    state
        ``complete``; ``running``: a driver holds the lease; ``interrupted``: none does.
    tiles_done, tiles
        Finished, in all; of several samples also those of mean and deviation.
    samples
        Volumes that are solved for.
    fraction
        Of the work (voxels times iterations) that was done when the driver last told.
    iterations
        Least and most iterations done in coupled tiles under way.
    iterations_total
        Of each tile.
    iteration, sigma, residual
        Of the latest step: which (from 0), its noise level, and the root-mean-square residual of
        that iteration before its descent, in the data's unit per pixel.
    rate
        Voxels per second of the last session.
    eta_seconds
        Left, at that rate; of a running run.
    workers, losses, repeated
        Of the last session: ready workers; workers lost; voxels solved for again.
    holder
        Host and process that hold the lease, and whether that process is stopped.
    checkpoints
        Of units that are not finished.
    checkpoint_age
        Of the oldest of these.
    updated, last_event
        Ages of the driver's last word, and of the last thing that it reported.
    """

    path: str
    work: str
    replaces: bool
    state: State
    tiles_done: int
    tiles: int
    samples: int
    fraction: float
    iterations: tuple[int, int] | None
    iterations_total: int | None
    iteration: int | None
    sigma: float | None
    residual: float | None
    rate: float | None
    eta_seconds: float | None
    workers: int | None
    losses: int
    repeated: int
    holder: str | None
    checkpoints: tuple[CheckpointStatus, ...]
    checkpoint_age: float | None
    updated: float | None
    last_event: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def describe(self) -> str:
        """A page for people."""
        rows = [
            ("output", self.path),
            ("state", self.state + (f", by {self.holder}" if self.holder else "")),
            *(
                [("replaces", "the former result, which can be read until then")]
                if self.replaces
                else []
            ),
            ("tiles", f"{self.tiles_done} of {self.tiles} finished{self._samples()}"),
            ("work", f"{100 * self.fraction:.1f} % done"),
        ]
        if self.state != "complete":
            rows += self._under_way()
        if self.losses or self.repeated:
            again = f"{self.repeated / 1e6:.3g} Mvoxel solved for again"
            lost = "1 worker" if self.losses == 1 else f"{self.losses} workers"
            rows.append(("losses", f"{lost} lost, {again}"))
        if self.checkpoint_age is not None:
            rows.append(("checkpoints", self._checkpoints()))
        if self.updated is not None and self.state != "complete":
            rows.append(("last sign", f"{format_duration(self.updated)} ago"))
        if self.last_event is not None and self.state == "running":
            rows.append(("last event", f"{format_duration(self.last_event)} ago"))
        lines = [f"{name:<12}  {value}" for name, value in rows]
        if self.state == "interrupted" and self.replaces:
            lines.append(
                "what is there is whole and can be read; run reconstruct again with the settings of "
                f"this run to replace it, or delete {self.work} to keep it"
            )
        elif self.state == "interrupted":
            lines.append("run reconstruct again on the same output to go on")
        return "\n".join(lines)

    def _samples(self) -> str:
        return "" if self.samples == 1 else f", of {self.samples} samples, mean and deviation"

    def _under_way(self) -> list[tuple[str, str]]:
        rows = []
        running = self.state == "running"
        whole = "" if self.iterations_total is None else f" of {self.iterations_total}"
        if self.iterations is not None and running:
            least, most = self.iterations
            span = str(least) if least == most else f"{least} to {most}"
            rows.append(("iterations", f"{span}{whole} done in tiles under way"))
        if self.iteration is not None:
            parts = [f"iteration {self.iteration + 1}{whole}"]
            parts += [] if self.sigma is None else [f"sigma {self.sigma:.3g}"]
            parts += [] if self.residual is None else [f"residual {self.residual:.4g} per pixel"]
            rows.append(("last step", ", ".join(parts)))
        if self.rate:
            eta = "" if self.eta_seconds is None else f", {format_duration(self.eta_seconds)} left"
            rows.append(("rate", f"{self.rate / 1e6:.3g} Mvoxel/s{eta}"))
        if self.workers is not None and running:
            rows.append(("workers", str(self.workers)))
        return rows

    def _checkpoints(self) -> str:
        least = min(c.iteration for c in self.checkpoints)
        most = max(c.iteration for c in self.checkpoints)
        span = f"iteration {least}" if least == most else f"iterations {least} to {most}"
        age = format_duration(self.checkpoint_age or 0.0)
        return f"{len(self.checkpoints)} at {span}, the oldest {age} ago"


def status(out: str | Path) -> Status:
    """Read how far a run is.

    Raises
    ------
    InputError
        ``out`` is no output of a run.
    StorageError
        Its record is damaged.
    """
    place, work = locate(out, "out"), written_at(out)
    record = RunRecord(work)
    # The lease first: a driver declares the volume whole before it gives the lease back, so a run
    # that ends between the two reads is not taken for an interrupted one.
    lease = lease_of(place)
    alive = _alive(lease)
    problem, state = record.read_problem(), record.read_state()
    if problem is None and not alive:
        raise InputError("out", str(out), "holds no record of a reconstruction")
    complete = state is not None and state["state"] == COMPLETE
    plan, progress = _table(record, "plan"), _table(record, "progress")
    digest = "" if state is None else state["problem"]  # before the first state there is no more
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
    )


def _checkpoints(record: RunRecord, digest: str, now: float) -> list[CheckpointStatus]:
    """Newest checkpoints; a unit that finished in the meantime has none."""
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
    """Who holds a lease that can be read."""
    stopped = ", which is stopped (SIGSTOP)" if is_stopped(dict(lease)) else ""
    return f"process {lease.get('pid')} on {lease.get('host')}{stopped}"


def _alive(lease: Mapping[str, Any]) -> bool:
    try:
        return is_alive(dict(lease))
    except (KeyError, TypeError, ValueError):  # none, or one that nobody can read
        return False


def _table(record: RunRecord, name: str) -> Mapping[str, Any]:
    """A file that may be missing, or be just being replaced on a store that is not atomic."""
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
    """Seconds ago; clocks of two hosts may differ a little, so never below 0."""
    value = _number(table, key)
    return None if value is None else max(0.0, now - value)


def _span(progress: Mapping[str, Any]) -> tuple[int, int] | None:
    match progress.get("iterations"):
        case [int(least), int(most)]:
            return least, most
    return None
