"""A picture of what each worker did when, from the log of events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ddgm_dist.errors import InputError
from ddgm_dist.storage.run_record import RunRecord

__all__ = ["draw_timeline", "spans"]

Span = tuple[float, float]
PHASES = {
    "read": "#8da0cb",
    "wait": "#eeeeee",
    "gradient": "#fc8d62",
    "noise": "#e5c494",
    "denoise": "#66c2a5",
    "exchange": "#a6d854",
    "save": "#e78ac3",
    "write": "#ffd92f",
}
_COLUMNS = 1600


def spans(events: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, list[Span]]]:
    """Busy times by worker and phase, seconds since the epoch.

    The phases of a step are laid end to end in the order of `PHASES`: the log has their lengths and when
    the step began.
    """
    found: dict[str, dict[str, list[Span]]] = {}
    for event in events:
        kind, lane = event["event"], found.setdefault(event.get("worker") or "", {})
        if kind == "save":
            start = event["started"]
            lane.setdefault("save", []).append((start, start + event["seconds"]))
        elif kind == "step":
            parts = event["seconds"]
            start = event["started"] - sum(parts.get(p, 0.0) for p in ("read", "wait"))
            for phase in PHASES:
                length = parts.get(phase, 0.0)
                lane.setdefault(phase, []).append((start, start + length))
                start += length
    found.pop("", None)
    return {worker: lanes for worker, lanes in found.items() if lanes}


def draw_timeline(out: str | Path, png: str | Path) -> None:
    """Draw the timeline of all sessions of a run.

    Raises
    ------
    InputError
        The run has logged no steps.
    """
    events = RunRecord(out).events()
    lanes = spans(events)
    if not lanes:
        raise InputError("out", str(out), "has no log of events to draw")
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    workers = sorted(lanes, key=lambda name: (len(name), name))
    every = [span for lane in lanes.values() for part in lane.values() for span in part]
    first, last = min(a for a, _ in every), max(b for _, b in every)
    scale, unit = (60.0, "min") if last - first > 300 else (1.0, "s")
    pixel = (last - first) / _COLUMNS
    figure, axes = plt.subplots(figsize=(12, 1.6 + 0.28 * len(workers)), layout="constrained")
    for row, worker in enumerate(workers):
        for phase, colour in PHASES.items():
            bars = [
                ((a - first) / scale, max(b - a, pixel) / scale)
                for a, b in _merged(lanes[worker].get(phase, []), pixel)
            ]
            axes.broken_barh(bars, (row - 0.4, 0.8), color=colour, linewidth=0)
    for event in events:
        if event["event"] == "fault":
            axes.axvline((event["time"] - first) / scale, color="#d62728", linewidth=0.8)
    axes.set_yticks(range(len(workers)), [f"{w}  {_busy(lanes[w])}" for w in workers])
    axes.invert_yaxis()
    axes.set_xlabel(f"time, {unit}")
    faults = sum(event["event"] == "fault" for event in events)
    axes.set_title(f"{len(workers)} workers, {faults} faults (red); per cent busy beside the name")
    handles = [Patch(color=c) for c in PHASES.values()]
    axes.legend(handles, PHASES, ncols=len(PHASES), loc="upper left", bbox_to_anchor=(0, -0.12))
    figure.savefig(png, dpi=120)
    plt.close(figure)


def _merged(parts: Sequence[Span], gap: float) -> list[Span]:
    """Spans joined where less than a pixel lies between them."""
    out: list[Span] = []
    for a, b in sorted(parts):
        if b - a <= 0:
            continue
        if out and a - out[-1][1] < gap:
            out[-1] = (out[-1][0], max(b, out[-1][1]))
        else:
            out.append((a, b))
    return out


def _busy(lane: Mapping[str, Sequence[Span]]) -> str:
    """Share of a worker's life, from its first event to its last, that is computing."""
    every = [span for part in lane.values() for span in part]
    life = max(b for _, b in every) - min(a for a, _ in every)
    work = sum(b - a for phase in ("gradient", "noise", "denoise") for a, b in lane.get(phase, []))
    return f"{100 * work / life:.0f} %" if life > 0 else ""
