"""The state of a run, as values and as a page for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from ddgm_dist.core.lines import labelled
from ddgm_dist.core.units import format_duration
from ddgm_dist.planning.presets import PresetUse
from ddgm_dist.records.fit import Fit

__all__ = ["CheckpointStatus", "State", "Status"]

State = Literal["complete", "running", "interrupted"]


@dataclass(frozen=True)
class CheckpointStatus:
    """The newest checkpoint of a unit, which is a group of coupled tiles or an uncoupled tile.

    Attributes
    ----------
    unit, iteration
        Name of the unit; iterations that are done in the checkpoint.
    age
        Seconds since it was committed.
    """

    unit: str
    iteration: int
    age: float


@dataclass(frozen=True)
class Status:
    """The state of a run. What is unknown is None; ages are in seconds.

    Attributes
    ----------
    path
        Path of the output.
    work
        Place where the run writes: the output, or the store that will replace it.
    replaces
        Whether the run will replace a result, which can be read until then. Everything else here
        describes the run, not that result.
    state
        ``complete``; ``running``: a driver holds the lease; ``interrupted``: none does.
    tiles_done, tiles
        Tiles that are finished; all tiles. With several samples, mean and deviation have tiles too.
    samples
        Number of volumes that are solved for.
    fraction
        Share of the work (voxels times iterations) that was done at the driver's last update.
    iterations
        Least and most iterations done in coupled tiles under way.
    iterations_total
        Iterations of each tile.
    iteration, sigma, residual
        Iteration (from 0) and noise level of the latest step; root-mean-square residual of that
        iteration before its descent, in the data's unit per pixel.
    rate
        Voxels per second in the last session.
    eta_seconds
        Time that is left at that rate; only of a running run.
    workers, losses, repeated
        Ready workers, lost workers and voxels that were solved for again, in the last session.
    holder
        Host and process that hold the lease, and whether that process is stopped.
    checkpoints
        Newest checkpoints of units that are not finished.
    checkpoint_age
        Age of the oldest of these.
    updated, last_event
        Ages of the driver's last update and of the last event that it logged.
    start
        Restorer that the iterations begin from, in words; None where they begin from zero.
    fit
        Whether the volume explains the data; None unless it is complete.
    preset
        The preset that was given; None where none was.
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
    fit: Fit | None = None
    start: str | None = None
    preset: PresetUse | None = None

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        return asdict(self) | {
            "fit": None if self.fit is None else self.fit.to_dict(),
            "preset": None if self.preset is None else self.preset.to_dict(),
        }

    def describe(self) -> str:
        """A page for people."""
        rows = [
            ("output", self.path),
            ("state", self.state + (f", by {self.holder}" if self.holder else "")),
        ]
        if self.replaces:
            rows.append(("replaces", "the former result, which can be read until then"))
        if self.start is not None:
            rows.append(("start", self.start))
        if self.preset is not None:
            rows.append(("preset", self.preset.describe()))
        several = f", of {self.samples} samples, mean and deviation" if self.samples > 1 else ""
        finished = f"{self.tiles_done} of {self.tiles} finished{several}"
        if not self.tiles:
            finished = "none yet; nothing is written yet"
        rows += [
            ("tiles", finished),
            ("work", f"{100 * self.fraction:.1f} % done"),
        ]
        if self.state != "complete":
            rows += self._under_way()
        if self.fit is not None:
            rows.append(("fit", self.fit.text()))
        if self.losses or self.repeated:
            again = f"{self.repeated / 1e6:.3g} Mvoxel solved for again"
            lost = "1 worker" if self.losses == 1 else f"{self.losses} workers"
            rows.append(("losses", f"{lost} lost, {again}"))
        if self.checkpoint_age is not None:
            rows.append(("checkpoints", self._checkpoints()))
        if self.updated is not None and self.state != "complete":
            rows.append(("last sign", f"{_duration(self.updated)} ago"))
        if self.last_event is not None and self.state == "running":
            rows.append(("last event", f"{_duration(self.last_event)} ago"))
        lines = [labelled(name, value, 14) for name, value in rows]
        if self.state == "interrupted" and self.replaces:
            lines.append(
                "the former result is complete and can be read; run reconstruct again with the settings "
                f"of this run to replace it, or delete {self.work} to keep it"
            )
        elif self.state == "interrupted":
            lines.append("run reconstruct again on the same output to resume")
        return "\n".join(lines)

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
            eta = "" if self.eta_seconds is None else f", {_duration(self.eta_seconds)} left"
            rows.append(("rate", f"{self.rate / 1e6:.3g} Mvoxel/s{eta}"))
        if self.workers is not None and running:
            rows.append(("workers", str(self.workers)))
        return rows

    def _checkpoints(self) -> str:
        least = min(c.iteration for c in self.checkpoints)
        most = max(c.iteration for c in self.checkpoints)
        span = f"iteration {least}" if least == most else f"iterations {least} to {most}"
        age = _duration(self.checkpoint_age or 0.0)
        return f"{len(self.checkpoints)} at {span}, the oldest {age} ago"


def _duration(seconds: float) -> str:
    return format_duration(round(seconds))
