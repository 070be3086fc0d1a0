"""What a run tells while it goes: residuals and timings gathered, and a progress bar for people."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from ddgm_dist.core.units import format_duration
from ddgm_dist.engine.coverage import Coverage
from ddgm_dist.planning.problem import Problem
from ddgm_dist.tile.events import Receipt, StepEvent

__all__ = ["Bar", "Tally"]


@dataclass
class Tally:
    """Sums over the events of a run.

    Attributes
    ----------
    problem
        Gives the unit of the residual.
    squared, samples
        Squared residual and number of measured samples per iteration.
    seconds
        Worker time per phase, added over workers.
    coverage
        What is done: each iteration of each tile counts once.
    last
        The latest step, for people.
    """

    problem: Problem
    squared: dict[int, float] = field(default_factory=dict)
    samples: dict[int, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    coverage: Coverage = field(default_factory=Coverage)
    last: StepEvent | None = None

    def add(self, event: StepEvent) -> None:
        """Count one iteration of one tile, unless it was counted before it had to be redone."""
        self.last = event
        if not self.coverage.add(event.tile, event.iteration, event.voxels):
            return
        n = event.iteration
        self.squared[n] = self.squared.get(n, 0.0) + event.residual
        self.samples[n] = self.samples.get(n, 0.0) + event.measured
        for phase, seconds in event.seconds.items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def add_receipt(self, receipt: Receipt) -> None:
        """Count what a tile spent outside its iterations, and the tile as done."""
        self.coverage.finish(receipt.tile, receipt.work)
        for phase, seconds in receipt.more.items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def residual(self, n: int) -> float:
        """Root-mean-square residual of iteration n in the data's unit, before its descent."""
        mean = self.squared.get(n, 0.0) / max(self.samples.get(n, 0.0), 1.0)
        return math.sqrt(mean) * self.problem.intensity.std

    def residuals(self) -> list[dict[str, float]]:
        """Per iteration: n, sigma, steps, residual."""
        schedule = self.problem.schedule
        return [
            {
                "n": n,
                "sigma": schedule.sigma[n],
                "steps": schedule.steps[n],
                "residual": self.residual(n),
            }
            for n in sorted(self.squared)
        ]

    @property
    def gradient_share(self) -> float:
        """Gradient phase as a fraction of the iteration time (gradient, noise and denoising)."""
        parts = [self.seconds.get(p, 0.0) for p in ("gradient", "noise", "denoise")]
        return parts[0] / sum(parts) if sum(parts) > 0 else 0.0


class Bar:
    """A progress bar on standard error: sigma, residual, voxels per second, time left.

    Where that is no terminal (the log of a job), a line with these now and then.

    Parameters
    ----------
    total
        Voxels times iterations still to do.
    tally
        Where the figures come from.
    shown
        Draw nothing when false.
    every
        Seconds between lines, at least.
    """

    def __init__(self, total: int, tally: Tally, *, shown: bool, every: float = 10.0) -> None:
        self.tally, self.total, self.every = tally, total, every
        self.started = time.monotonic()
        self.console = Console(stderr=True)
        self.lines = shown and not (self.console.is_terminal or self.console.is_jupyter)
        self.told = -math.inf
        self.progress = Progress(
            BarColumn(bar_width=14),
            TaskProgressColumn(),
            TextColumn("{task.fields[figures]}"),
            TextColumn("ETA"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            disable=not shown or self.lines,
        )
        self.task = self.progress.add_task("reconstructing", total=total, figures="")

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def update(self, event: StepEvent) -> None:
        """Show one more iteration of a tile."""
        coverage = self.tally.coverage
        rate = coverage.voxels / max(time.monotonic() - self.started, 1e-6)
        residual = self.tally.residual(event.iteration)
        noise = self.tally.problem.intensity.sigma_y
        shown = f"{residual / noise:.2g} sigma_y" if noise > 0 else f"{residual:.3g}"
        # Fits a terminal of 80 columns.
        figures = f"sigma {event.sigma:.2g}, residual {shown}, {rate / 1e6:.2g} Mvoxel/s"
        # What a checkpoint brought is taken off the whole: as progress it would look like speed.
        self.progress.update(
            self.task,
            completed=coverage.voxels,
            total=self.total - coverage.resumed,
            figures=figures,
        )
        if self.lines and (now := time.monotonic()) - self.told >= self.every:
            self.told = now
            left = self.total - coverage.resumed
            share = 100 * min(1.0, coverage.voxels / max(1, left))
            ending = self.progress.tasks[0].time_remaining
            eta = "" if ending is None else f", ETA {format_duration(ending)}"
            self.console.out(f"{share:.1f} %  {figures}{eta}", highlight=False)
