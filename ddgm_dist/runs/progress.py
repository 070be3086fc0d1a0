"""Progress bars for people, on standard error."""

from __future__ import annotations

import math
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ddgm_dist.core.units import format_duration
from ddgm_dist.engine.tally import Tally
from ddgm_dist.tile.events import Event, StepEvent

__all__ = ["Bar"]

# Seconds between lines, where standard error is no terminal.
_EVERY = 10.0


class Bar:
    """A progress bar: sigma, residual, voxels per second, time left.

    Where standard error is no terminal (the log of a job), a line with these now and then.

    Parameters
    ----------
    tally
        Tally that the figures come from.
    shown
        Draw nothing when false.
    every
        Seconds between lines, at least.
    """

    def __init__(self, tally: Tally, *, shown: bool, every: float = _EVERY) -> None:
        self.tally, self.every = tally, every
        self.console = Console(stderr=True)
        self.lines = shown and not (self.console.is_terminal or self.console.is_jupyter)
        self._last_line = -math.inf
        self.progress = Progress(
            BarColumn(bar_width=14),
            TaskProgressColumn(),
            TextColumn("{task.fields[figures]}"),
            TextColumn("ETA"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            disable=not shown or self.lines,
        )
        self.task = self.progress.add_task(
            "reconstructing", total=tally.total - tally.before, figures=""
        )

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def __call__(self, event: Event) -> None:
        """Show the tally after one more iteration of a tile."""
        if not isinstance(event, StepEvent):
            return
        tally, coverage = self.tally, self.tally.coverage
        residual, known = tally.residual(event.iteration), tally.problem.intensity
        # Against what the run seeks to explain the data to.
        unit = "misfit" if known.misfit > known.sigma_y else "sigma_y"
        most = known.uncertainty
        shown = f"{residual / most:.2g} {unit}" if most > 0 else f"{residual:.3g}"
        # Fits a terminal of 80 columns.
        figures = f"sigma {event.sigma:.2g}, residual {shown}, {tally.rate / 1e6:.2g} Mvoxel/s"
        # What a checkpoint brought is taken off the whole: as progress it would look like speed.
        left = tally.total - tally.before - coverage.resumed
        self.progress.update(self.task, completed=coverage.voxels, total=left, figures=figures)
        if self.lines and (now := time.monotonic()) - self._last_line >= self.every:
            self._last_line = now
            share = 100 * min(1.0, coverage.voxels / max(1, left))
            rate = tally.rate
            eta = f", ETA {format_duration((left - coverage.voxels) / rate)}" if rate else ""
            self.console.out(f"{share:.1f} %  {figures}{eta}", highlight=False)
