"""How far a run is, from its output store alone, also while it goes on elsewhere. Nothing is written."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.storage.lease import LEASE, is_alive
from ddgm_dist.storage.run_record import COMPLETE, RunRecord
from ddgm_dist.storage.volume import block_digest, open_volume_store

__all__ = ["Status", "read_status", "verify"]

State = Literal["complete", "running", "interrupted"]


@dataclass(frozen=True)
class Status:
    """What the store tells of a run.

    Attributes
    ----------
    path
        Of the output.
    state
        ``complete``; ``running``: a driver holds the lease; ``interrupted``: none does.
    tiles_done, tiles
        Finished, in all.
    fraction
        Of the work (voxels times iterations) that is done; committed checkpoints of unfinished tiles
        are not counted once their driver has ended.
    iterations
        Least and most iterations done in coupled tiles under way.
    rate
        Voxels per second of the last session; None when it has told none.
    eta_seconds
        Left, at that rate; None when unknown.
    workers, losses, repeated
        Of the last session: ready workers; workers lost; voxels solved for again.
    holder
        Host and process that hold the lease.
    checkpoints
        Units of unfinished tiles with a committed checkpoint.
    checkpoint_age
        Seconds since the oldest of these was made.
    updated
        Seconds since the driver last told its progress.
    """

    path: str
    state: State
    tiles_done: int
    tiles: int
    fraction: float
    iterations: tuple[int, int] | None
    rate: float | None
    eta_seconds: float | None
    workers: int | None
    losses: int
    repeated: int
    holder: str | None
    checkpoints: int
    checkpoint_age: float | None
    updated: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def describe(self) -> str:
        """A page for people."""
        held = f" by {self.holder}" if self.holder and self.state == "running" else ""
        lines = [
            f"output        {self.path}",
            f"state         {self.state}{held}",
            f"tiles         {self.tiles_done} of {self.tiles} finished",
            f"work          {100 * self.fraction:.1f} % done",
        ]
        if self.iterations is not None and self.state == "running":
            lines.append(f"iterations    {self.iterations[0]} to {self.iterations[1]} under way")
        if self.rate and self.state != "complete":
            eta = "" if self.eta_seconds is None else f", {_duration(self.eta_seconds)} left"
            lines.append(f"rate          {self.rate / 1e6:.3g} Mvoxel/s{eta}")
        if self.workers is not None and self.state == "running":
            lines.append(f"workers       {self.workers}")
        if self.losses or self.repeated:
            lines.append(
                f"losses        {self.losses} workers, {self.repeated / 1e6:.3g} Mvoxel done again"
            )
        if self.checkpoints and self.checkpoint_age is not None:
            age = _duration(self.checkpoint_age)
            lines.append(f"checkpoints   {self.checkpoints}, the oldest {age} ago")
        if self.updated is not None and self.state != "complete":
            lines.append(f"last sign     {_duration(self.updated)} ago")
        if self.state == "interrupted":
            lines.append("run reconstruct again on the same output to go on")
        return "\n".join(lines)


def read_status(out: str | Path) -> Status:
    """Read how far a run is.

    Raises
    ------
    InputError
        ``out`` is no output of a run.
    StorageError
        Its record is damaged.
    """
    record = RunRecord(out)
    state, plan = record.read_state(), record.read_json("plan")
    if record.read_json("problem") is None:
        raise InputError("out", str(out), "holds no record of a reconstruction")
    lease = record.read_json(LEASE)
    progress: Mapping[str, Any] = record.read_json("progress") or {}
    plan = plan if isinstance(plan, dict) else {"tiles": 0, "voxels": 0, "iterations": 0}
    complete = state is not None and state["state"] == COMPLETE
    alive = isinstance(lease, dict) and is_alive(lease)
    now = time.time()
    done, total = progress.get("voxels_done", 0), progress.get("voxels_total", 0)
    fraction = 1.0 if complete else done / total if total else 0.0
    rate = progress.get("rate") or None
    ages = [now - _when(record, unit) for unit in record.names("commits")]
    receipts = len(record.names("receipts"))
    span = progress.get("iterations")
    return Status(
        path=str(out),
        state="complete" if complete else "running" if alive else "interrupted",
        tiles_done=plan["tiles"] if complete else min(receipts, plan["tiles"]),
        tiles=plan["tiles"],
        fraction=fraction,
        iterations=(int(span[0]), int(span[1])) if span else None,
        rate=rate,
        eta_seconds=(total - done) / rate if rate and not complete else None,
        workers=progress.get("workers"),
        losses=int(progress.get("losses", 0)),
        repeated=int(progress.get("repeated", 0)),
        holder=f"process {lease['pid']} on {lease['host']}" if alive and lease else None,
        checkpoints=len(ages),
        checkpoint_age=max(ages) if ages else None,
        updated=now - progress["updated"] if "updated" in progress else None,
    )


def _when(record: RunRecord, unit: str) -> float:
    """When a unit was checkpointed; now, if it has finished in the meantime."""
    commit = record.read_json(f"commits/{unit}")
    return float(commit["time"]) if isinstance(commit, dict) else time.time()


def verify(out: str | Path) -> list[str]:
    """Finished tiles whose voxels are not those that were written; reads them all.

    Raises
    ------
    InputError
        ``out`` is no output of a run.
    """
    store, damaged = open_volume_store(out), []
    for name, receipt in sorted(RunRecord(out).receipts().items()):
        (z0, y0, x0), (z1, y1, x1) = receipt["start"], receipt["stop"]
        try:
            block = store.read(Box((z0, y0, x0), (z1, y1, x1)))
        except StorageError:
            damaged.append(name)
            continue
        if block_digest(block) != receipt["digest"]:
            damaged.append(name)
    return damaged


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
