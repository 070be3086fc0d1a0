"""A bar on standard error that shows how far a series is read or written."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

__all__ = ["show_reading"]

# Seconds between lines, where standard error is no terminal; and those in which nothing is shown of
# what may end at once.
_EVERY, _QUICK = 10.0, 1.0


@contextlib.contextmanager
def show_reading(what: str, *, shown: bool) -> Iterator[Callable[[float], None] | None]:
    """Show how far something is read: a bar, or a line now and then where there is no terminal.

    Parameters
    ----------
    what
        What is read.
    shown
        Show nothing when false; then None is yielded.
    """
    if not shown:
        yield None
        return
    console, began = Console(stderr=True), time.monotonic()
    lines, said = not (console.is_terminal or console.is_jupyter), -math.inf
    bar = Progress(
        TextColumn("{task.description}:"),
        BarColumn(bar_width=14),
        TaskProgressColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(compact=True),
        console=console,
        disable=lines,
        transient=True,
    )
    task = bar.add_task(what, total=1.0)

    def report(share: float) -> None:
        nonlocal said
        now = time.monotonic()
        bar.update(task, completed=share)
        if now - began < _QUICK:
            return
        bar.start()
        if lines and now - said >= _EVERY:
            said = now
            console.out(f"{what}: {100 * share:.0f} %", highlight=False)

    try:
        yield report
    finally:
        bar.stop()
