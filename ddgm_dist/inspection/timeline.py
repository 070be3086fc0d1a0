"""A picture of what each worker did when, from the log of events.

There is a lane per worker: computing above, reading and writing below. Each column of pixels has the
mean colour of the phases in its time (white: none). So the picture is true, and quick to draw however
many events there are. Time between two sessions is left out.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.units import format_duration
from ddgm_dist.errors import InputError
from ddgm_dist.inspection.activity import COMPUTE, IO, Activity, activities
from ddgm_dist.paths.files import write_bytes
from ddgm_dist.paths.locate import locate, place_of
from ddgm_dist.paths.overlap import refuse_overlap
from ddgm_dist.records.result import work_place
from ddgm_dist.records.run_record import RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["column_shares", "draw_timeline"]

# Distinct also with red-green colour blindness.
COLOURS = {
    "exchange": (0.60, 0.60, 0.60),
    "restore": (0.65, 0.34, 0.16),
    "gradient": (0.94, 0.56, 0.13),
    "noise": (0.94, 0.86, 0.30),
    "denoise": (0.12, 0.47, 0.71),
    "read": (0.20, 0.63, 0.55),
    "setup": (0.70, 0.87, 0.54),
    "save": (0.58, 0.40, 0.74),
    "write": (0.89, 0.47, 0.76),
}
_FAULT = "#d00000"
_DPI, _WIDTH, _LEFT, _RIGHT = 120, 14.0, 1.7, 0.3  # inches
_HEAD, _FOOT, _TALLEST = 0.75, 0.95, 40.0
# Rows of the image per lane: computing, reading and writing, space.
_ROWS = (6, 3, 1)


def draw_timeline(out: str | Path, png: str | Path) -> None:
    """Draw the timeline of all sessions of a run.

    Raises
    ------
    InputError
        The run has logged no work, or the picture would lie in the output's store.
    """
    place = locate(out, "out")
    refuse_overlap(picture := place_of(png, "timeline"), "timeline", [("out", place)])
    sessions = activities(RunRecord(work_place(place)).events())
    workers = sorted({w for s in sessions for w in s.spans}, key=lambda name: (len(name), name))
    if not workers:
        raise InputError("out", str(out), "has no log of work to draw")
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    lanes = min((0.3 if len(workers) <= 16 else 0.2) * len(workers), _TALLEST)
    height = _HEAD + lanes + _FOOT
    figure = plt.figure(figsize=(_WIDTH, height), dpi=_DPI)
    inner = _WIDTH - _LEFT - _RIGHT
    axes = figure.add_axes((_LEFT / _WIDTH, _FOOT / height, inner / _WIDTH, lanes / height))
    _draw(axes, sessions, workers, round(inner * _DPI))
    axes.set_title(_title(Path(out).name, sessions, workers), loc="left", fontsize=11, pad=22)
    try:
        drawn = io.BytesIO()
        figure.savefig(drawn, format=Path(png).suffix[1:] or "png")
        write_bytes(picture, drawn.getvalue())
    finally:
        plt.close(figure)


def column_shares(spans: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Share of each column of pixels that spans cover.

    Parameters
    ----------
    spans
        Starts and ends in columns, ``(n, 2)``, within 0 and ``width``.
    width
        Number of columns.

    Returns
    -------
    ndarray
        Shares, ``(width,)``; their sum is the sum of the spans' lengths.
    """
    # What is covered up to the edge of each column is a sum of ramps.
    edges = np.arange(width + 1)
    total = np.zeros(width + 1)
    for sign, points in ((1.0, np.sort(spans[:, 0])), (-1.0, np.sort(spans[:, 1]))):
        sums = np.concatenate([[0.0], np.cumsum(points)])
        before = np.searchsorted(points, edges)
        total += sign * (before * edges - sums[before])
    return np.asarray(np.diff(total))


class _Clock:
    """The time axis, where sessions follow each other without the time between them.

    Attributes
    ----------
    starts
        Start of each session on the axis, seconds.
    offsets
        Subtracted from the times of each session, seconds since the epoch.
    pauses
        Seconds between the end of the session before and the start of each.
    total
        Length of all sessions, seconds.
    scale, unit
        Seconds per unit of the axis; name of the unit.
    """

    def __init__(self, sessions: Sequence[Activity]) -> None:
        self.starts: list[float] = []
        self.offsets: list[float] = []
        self.pauses: list[float] = []
        self.total, end = 0.0, 0.0
        for session in sessions:
            first, last = session.extent() or (0.0, 0.0)
            self.starts.append(self.total)
            self.offsets.append(first - self.total)
            self.pauses.append(max(0.0, first - end))
            self.total, end = self.total + last - first, last
        self.total = max(self.total, 1e-3)
        self.scale, self.unit = next(
            (pair for pair in ((3600.0, "h"), (60.0, "min")) if self.total > 3 * pair[0]),
            (1.0, "s"),
        )


def _draw(axes: Axes, sessions: Sequence[Activity], workers: Sequence[str], width: int) -> None:
    clock = _Clock(sessions)
    image = np.ones((sum(_ROWS) * len(workers), width, 3))
    for row, worker in enumerate(workers):
        top = row * sum(_ROWS)
        for phases, first, rows in ((COMPUTE, 0, _ROWS[0]), (IO, _ROWS[0], _ROWS[1])):
            image[top + first : top + first + rows] = _colours(
                sessions, clock, worker, phases, width
            )
    axes.imshow(
        image,
        extent=(0, clock.total / clock.scale, len(workers), 0),
        aspect="auto",
        interpolation="nearest",
    )
    _mark_faults(axes, sessions, clock, workers)
    _mark_sessions(axes, clock)
    _label(axes, sessions, workers, clock.unit)


def _colours(
    sessions: Sequence[Activity], clock: _Clock, worker: str, phases: Sequence[str], width: int
) -> NDArray[np.float64]:
    """Mean colour of each column of one half of a lane, ``(width, 3)``."""
    shares = np.zeros((len(phases), width))
    for index, phase in enumerate(phases):
        parts = [
            (np.array(session.spans[worker][phase]) - offset) * (width / clock.total)
            for session, offset in zip(sessions, clock.offsets, strict=True)
            if phase in session.spans.get(worker, {})
        ]
        if parts:
            shares[index] = column_shares(np.clip(np.concatenate(parts), 0, width), width)
    share = shares.sum(axis=0)
    shares /= np.maximum(share, 1.0)  # where two phases overlap
    mixed = shares.T @ np.array([COLOURS[phase] for phase in phases])
    return np.asarray(np.clip(mixed + (1 - np.minimum(share, 1.0))[:, None], 0.0, 1.0))


def _mark_faults(
    axes: Axes, sessions: Sequence[Activity], clock: _Clock, workers: Sequence[str]
) -> None:
    """Mark each fault on its worker's lane, or on all lanes when it concerns no worker."""
    rows = {worker: row for row, worker in enumerate(workers)}
    marks = [
        ((time - offset) / clock.scale, rows.get(worker))
        for session, offset in zip(sessions, clock.offsets, strict=True)
        for time, worker in session.faults
    ]
    for row in {row for _, row in marks}:
        low, high = (0.0, float(len(workers))) if row is None else (float(row), row + 0.95)
        places = [x for x, r in marks if r == row]
        axes.vlines(places, low, high, colors=_FAULT, linewidth=1.4, zorder=3)


def _mark_sessions(axes: Axes, clock: _Clock) -> None:
    """Draw a line where each session begins, with the pause before it."""
    labelled = -math.inf
    for index, (start, pause) in enumerate(zip(clock.starts, clock.pauses, strict=True)):
        x = start / clock.scale
        text = f"session {index + 1}" + (f", {format_duration(pause)} later" if index else "")
        axes.axvline(x, color="black", linewidth=1.0, linestyle="--", zorder=4)
        if x - labelled > 0.14 * clock.total / clock.scale:  # else its text would cover another
            labelled = x
            axes.annotate(
                text, (x, 1), xycoords=("data", "axes fraction"), xytext=(2, 3),
                textcoords="offset points", fontsize=8,
            )  # fmt: skip


def _label(axes: Axes, sessions: Sequence[Activity], workers: Sequence[str], unit: str) -> None:
    """Write names and busy shares of workers, legend and axis."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    every = max(1, len(workers) // 130)
    rows = range(0, len(workers), every)
    names = [f"{workers[row]}  {_percent(sessions, [workers[row]])}" for row in rows]
    axes.set_yticks([row + 0.45 for row in rows], names, fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"time, {unit} (upper part of a lane: computing; lower: reading and writing)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    used = {phase for s in sessions for lane in s.spans.values() for phase in lane}
    handles: list[Patch | Line2D] = [
        Patch(color=colour, label=phase) for phase, colour in COLOURS.items() if phase in used
    ]
    if any(session.faults for session in sessions):
        handles.append(Line2D([], [], color=_FAULT, label="fault"))
    axes.figure.legend(
        handles=handles, ncols=len(handles), loc="lower center", frameon=False, fontsize=9
    )


def _title(name: str, sessions: Sequence[Activity], workers: Sequence[str]) -> str:
    faults = sum(len(session.faults) for session in sessions)
    parts = [
        name,
        f"{_many(len(workers), 'worker')} computing {_percent(sessions, workers)} of their time",
        _many(faults, "fault"),
    ]
    return "   ".join(parts)


def _percent(sessions: Sequence[Activity], workers: Sequence[str]) -> str:
    """Share of the workers' time in which they computed."""
    pairs = [session.busy(worker) for session in sessions for worker in workers]
    life = sum(pair[1] for pair in pairs)
    return f"{100 * sum(pair[0] for pair in pairs) / life:.0f} %" if life > 0 else "-"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
