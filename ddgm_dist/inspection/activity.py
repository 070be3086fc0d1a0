"""Activity of each worker, from the log of events: spans of time by phase."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["COMPUTE", "IO", "Activity", "activities"]

# Phases that a worker does one at a time, and those that run beside them. Waiting is neither.
COMPUTE = ("exchange", "restore", "gradient", "noise", "denoise")
IO = ("read", "setup", "save", "write")

Span = tuple[float, float]


@dataclass
class Activity:
    """One session of a run; times in seconds since the epoch.

    Attributes
    ----------
    session
        Name of the session.
    spans
        Spans by worker and phase, in the order of the log.
    faults
        Times and workers of faults; the worker is empty when a fault concerns none.
    """

    session: str
    spans: dict[str, dict[str, list[Span]]] = field(default_factory=dict)
    faults: list[tuple[float, str]] = field(default_factory=list)

    def extent(self) -> Span | None:
        """First and last moment; None when nothing happened."""
        starts = [a for lane in self.spans.values() for part in lane.values() for a, _ in part]
        stops = [b for lane in self.spans.values() for part in lane.values() for _, b in part]
        times = [time for time, _ in self.faults]
        if not starts and not times:
            return None
        return min(starts + times), max(stops + times)

    def busy(self, worker: str) -> tuple[float, float]:
        """Seconds that a worker computed, and seconds from its first span to its last."""
        lane = self.spans.get(worker, {})
        every = [span for part in lane.values() for span in part]
        if not every:
            return 0.0, 0.0
        work = sum(b - a for phase in COMPUTE for a, b in lane.get(phase, []))
        return work, max(b for _, b in every) - min(a for a, _ in every)

    def add(self, worker: str, phase: str, start: float, seconds: float) -> float:
        """Add a span, and return its end."""
        if seconds > 0:
            lane = self.spans.setdefault(worker, {})
            lane.setdefault(phase, []).append((start, start + seconds))
        return start + seconds


def activities(events: Iterable[Mapping[str, Any]]) -> list[Activity]:
    """Sessions in the order of the log; lines without time or worker are left out."""
    found: dict[str, Activity] = {}
    # When the last step of a tile ended: its write begins then.
    ends: dict[tuple[str, str, str], float] = {}
    for event in events:
        session = str(event.get("session", ""))
        activity = found.setdefault(session, Activity(session))
        worker, tile = str(event.get("worker") or ""), str(event.get("tile") or "")
        started = _number(event.get("started"))
        if event.get("event") == "fault":
            when = _number(event.get("time"))
            if when > 0:
                activity.faults.append((when, worker))
        elif worker and started > 0:
            key = (session, worker, tile)
            if event.get("event") == "save":
                activity.add(worker, "save", started, _number(event.get("seconds")))
            elif event.get("event") == "step":
                ends[key] = _step(activity, worker, started, _seconds(event))
            elif event.get("event") == "tile":
                _tile(activity, worker, started, _seconds(event), ends.pop(key, None))
    return [activity for activity in found.values() if activity.extent() is not None]


def _step(activity: Activity, worker: str, started: float, seconds: Mapping[str, float]) -> float:
    """Add a step that began to compute at ``started``, after reading, waiting and blending."""
    restored = started - seconds.get("restore", 0.0)
    activity.add(worker, "restore", restored, started - restored)
    before = restored - seconds.get("exchange", 0.0)
    activity.add(worker, "exchange", before, restored - before)
    read = before - seconds.get("wait", 0.0) - sum(seconds.get(p, 0.0) for p in ("read", "setup"))
    for phase in ("setup", "read"):
        read = activity.add(worker, phase, read, seconds.get(phase, 0.0))
    for phase in ("gradient", "noise", "denoise"):
        started = activity.add(worker, phase, started, seconds.get(phase, 0.0))
    return started


def _tile(
    activity: Activity,
    worker: str,
    started: float,
    seconds: Mapping[str, float],
    computed: float | None,
) -> None:
    """Add a finished tile: an uncoupled one was read at ``started``, a coupled one blended."""
    for phase in ("setup", "read"):
        started = activity.add(worker, phase, started, seconds.get(phase, 0.0))
    if "gradient" in seconds:  # its steps have events of their own
        if computed is None:
            return
        started = computed
    else:
        started += seconds.get("wait", 0.0)
        started = activity.add(worker, "exchange", started, seconds.get("exchange", 0.0))
    started += seconds.get("other", 0.0)
    activity.add(worker, "write", started, seconds.get("write", 0.0))


def _seconds(event: Mapping[str, Any]) -> dict[str, float]:
    value = event.get("seconds")
    return {str(k): _number(v) for k, v in value.items()} if isinstance(value, dict) else {}


def _number(value: object) -> float:
    """A time that is not negative; 0 for anything else."""
    return max(0.0, float(value)) if isinstance(value, int | float) else 0.0
