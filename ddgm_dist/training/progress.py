"""Progress of a training on the console: a bar, or lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ddgm_dist.training.loop import TrainingHistory

__all__ = ["show_progress"]

OnStep = Callable[[TrainingHistory, float], None]

_LINE_SECONDS = 60.0


@contextmanager
def show_progress(batch: int, console: Console, *, enabled: bool = True) -> Iterator[OnStep]:
    """Yield the ``on_step`` of :func:`ddgm_dist.training.loop.run_training`.

    It shows a bar on a terminal, and a line a minute elsewhere, where a bar cannot be drawn.
    """
    figures = _Figures(batch)
    if not enabled:
        yield lambda history, done: None
    elif not console.is_terminal:
        yield _lines(figures, console)
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("training", total=1.0)
            yield lambda history, done: bar.update(
                task, completed=done, description=figures(history)
            )


def _lines(figures: _Figures, console: Console) -> OnStep:
    said = float("-inf")

    def on_step(history: TrainingHistory, done: float) -> None:
        nonlocal said
        text = figures(history)
        if done >= 1 or time.monotonic() - said > _LINE_SECONDS:
            console.print(f"{text}, {done:.0%}", markup=False, highlight=False)
            said = time.monotonic()

    return on_step


class _Figures:
    """Text of the step, the loss (mean of 50 steps) and the speed since this run began."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.first: tuple[int, float] | None = None

    def __call__(self, history: TrainingHistory) -> str:
        step, seconds = self.first = self.first or (history.step, history.seconds)
        took = history.seconds - seconds
        speed = f"{(history.step - step) * self.batch / took:.1f}" if took > 0 else "-"
        loss = f"{history.train[-1][1]:.4f}" if history.train else "-"
        return f"step {history.step}, loss {loss}, {speed} patches/s"
