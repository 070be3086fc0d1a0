"""Output of `tune`: progress, the table of candidates, the configuration."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ddgm_dist.errors import InputError
from ddgm_dist.paths.atomic import replace_file

__all__ = ["Row", "Steps", "check_target", "show_steps", "to_table", "write_config"]


@dataclass(frozen=True)
class Row:
    """One candidate of the table.

    Attributes
    ----------
    name, settings
        Values that differ from the configuration given, as text and by key.
    calls
        Denoiser calls of a reconstruction, N.
    blocks
        Number of blocks that it was tried on.
    error
        Estimated mean squared error, a fraction of the volume's variance; its parts by held-out
        tilts:
    between, beyond
        Within the range of the kept angles, and outside it.
    misfit
        Squared residual of the held-out tilts over their noise's; None where no noise is known.
    difference, deviation
        Difference of the error to the chosen one's, over the same blocks, and its standard error. None
        where it cannot be estimated.
    resolution
        Period in voxels at which reconstructions from even and odd tilts cease to correlate; None where
        it was not measured.
    chosen
        True for the chosen one.
    restorer_calls
        Calls of the restorer for one block; 0 where the start is zero.
    ends
        Smooth residual of steep held-out tilts at the ends of the blocks over that in the middle
        (:mod:`ddgm_dist.tuning.model_error`); None where it is unknown.
    """

    name: str
    settings: Mapping[str, Any]
    calls: int
    blocks: int
    error: float
    between: float
    beyond: float
    misfit: float | None
    difference: float
    deviation: float | None
    resolution: float | None
    chosen: bool
    restorer_calls: int = 0
    ends: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; what is not finite becomes None."""
        return {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in asdict(self).items()
        }


def to_table(rows: Sequence[Row]) -> str:
    """The candidates as aligned columns."""
    width = max(len("settings"), *(len(row.name) for row in rows))
    head = f"  {'settings':<{width}} {'N':>4} {'blocks':>6} {'error':>7} {'above it':>17}"
    lines = [f"{head} {'misfit':>7} {'ends':>6} {'FRC':>6}"]
    for row in rows:
        above = "" if row.chosen else f"{row.difference:+.4f}"
        if row.deviation is not None and not row.chosen:
            above += f" +- {row.deviation:.4f}"
        misfit = "-" if row.misfit is None else f"{row.misfit:.3f}"
        ends = "-" if row.ends is None else f"{row.ends:.2f}"
        resolution = "-" if row.resolution is None else f"{row.resolution:.2f}"
        lines.append(
            f"{'*' if row.chosen else ' '} {row.name:<{width}} {row.calls:>4} {row.blocks:>6} "
            f"{row.error:>7.4f} {above:>17} {misfit:>7} {ends:>6} {resolution:>6}"
        )
    return "\n".join(lines)


class Steps:
    """Counts denoiser calls, and draws them."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress = progress
        self.task = progress.add_task("", total=total)

    def say(self, what: str) -> None:
        """Describe the step under way."""
        self.progress.update(self.task, description=what)

    def left(self, calls: int) -> None:
        """Set the number of steps that are expected to follow."""
        done = self.progress.tasks[self.task].completed
        self.progress.update(self.task, total=done + calls)

    def __call__(self) -> None:
        """Count one more step as done."""
        self.progress.advance(self.task)


@contextmanager
def show_steps(total: int, *, shown: bool) -> Iterator[Steps]:
    """A progress bar on standard error."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:
        yield Steps(progress, total)


def check_target(out: Path, *, overwrite: bool) -> None:
    """Refuse a place that a configuration cannot be written to, before any work."""
    if out.is_dir():
        raise InputError("out", str(out), "is a folder", "name a file, such as tuned.yaml")
    if out.exists() and not overwrite:
        raise InputError("out", str(out), "exists already", "choose another name, or --overwrite")
    if not out.absolute().parent.is_dir():
        raise InputError("out", str(out), "lies in a folder that does not exist")


def write_config(out: Path, values: Mapping[str, Any], comments: Sequence[str]) -> None:
    """Write a configuration that ``reconstruct --config`` takes; whole or not at all."""
    lines = [f"# {line}\n" for line in comments]
    text = "".join(lines) + yaml.safe_dump(dict(values), sort_keys=False)
    replace_file(out, text.encode())
