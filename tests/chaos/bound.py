"""How much work a fault may cost, and whether it cost more.

Three records are kept of a run: the driver's log of events, flushed event by event; the log that the
denoiser itself leaves of its calls, in the workers; and the faults that were injected. A *step* is one
iteration of one tile, a *unit* a group of coupled tiles or one uncoupled tile, a *round* one iteration
of a unit's slowest tile, and the *spread* how many iterations two tiles of a unit can be apart: their
distance in the row, 0 for an uncoupled tile. The promise is that a fault costs at most one checkpoint
interval of the units it touches. Checked is

0. *Only a fault makes work be done again.* A step that is repeated had been done before a fault, or was
   in flight when its group was rolled back, two calls per worker and fault.
1. *Nothing committed is computed again.* A generation is committed once the driver has logged that the
   store took its record; one of an uncoupled tile, which its worker commits, once its save has been
   reported. No step that leads up to it is begun after that. A tile that was finished when a session
   began is not computed in it.
2. *What is computed again is younger than a checkpoint interval.* A checkpoint is begun
   ``checkpoint_every`` after the last was begun (or when that is whole, if this is later), with the
   first iteration that no tile has begun: the slowest tile is there after at most ``spread + 2``
   rounds. So of a step that is done again, first done at t, followed by a fault at f, at most ``spread
   + 2`` rounds lie between ``t + checkpoint_every`` and f; twice as many where fewer than that fit
   ``checkpoint_every``, for then a checkpoint waits for the last. In streamed runs each iteration is a
   checkpoint.
3. *There is no hidden work.* The denoiser's calls beyond those of an undisturbed run are at most those
   of the repeated steps in the log, and of steps that nobody could report: of each killed worker two
   (one computes, one is written) if tiles are coupled; where they run to completion, what it had called
   within ``checkpoint_every`` before its end, and two steps.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddgm_dist.tile.history import unit_name
from tests.chaos.problem import Call, Case

# Faults that the engine met with, beside those injected.
LOSSES = {"worker-lost", "preempted", "stalled", "unavailable", "object-lost", "draining"}
WORKERS = 3
SLACK = 0.3  # seconds: the driver looks at its clocks five times a second
Line = dict[str, Any]


@dataclass(frozen=True)
class Injected:
    """A fault that was injected.

    Attributes
    ----------
    kind
        ``worker``, ``node``, ``drain`` or ``driver``.
    time
        When it began, seconds since the epoch.
    end
        When all processes were dead.
    pids
        Workers that it killed.
    """

    kind: str
    time: float
    end: float
    pids: list[int]


@dataclass(frozen=True)
class Cost:
    """What a run's faults cost.

    Attributes
    ----------
    steps
        Of an undisturbed run.
    repeated
        Steps done more than once, as reported.
    excess
        The denoiser's calls beyond an undisturbed run's, in steps: with what nobody reported.
    oldest
        Seconds before a fault at which a repeated step had been done: the longest.
    broken
        Promises that were not kept.
    """

    steps: int
    repeated: int
    excess: float
    oldest: float
    broken: list[str]


def cost(case: Case, events: Path, calls: list[Call], faults: list[Injected]) -> Cost:
    """Judge a run by its records."""
    lines = [json.loads(x) for x in events.read_text(encoding="utf-8").splitlines()]
    steps = [e for e in lines if e["event"] == "StepEvent"]
    seen = [e["time"] for e in lines if e["event"] == "FaultEvent" and e["kind"] in LOSSES]
    ends = sorted([f.time for f in faults] + [f.end for f in faults] + seen)
    broken = _committed_again(case, lines) + _finished_again(lines)
    first: dict[tuple[str, int], float] = {}
    again: list[tuple[str, int]] = []
    oldest, late = 0.0, 0
    for step in steps:
        key = (step["tile"], step["iteration"])
        if key in first:
            again.append(key)
            fault = next((t for t in ends if t + SLACK >= first[key]), None)
            if fault is None or fault > step["at"]:
                late += 1  # in flight when its group was rolled back: what it gave was void
                continue
            oldest = max(oldest, fault - first[key])
            rounds, limit = _rounds(case, steps, step["tile"], first[key], fault)
            if rounds > limit:
                broken.append(
                    f"{key}, done {fault - first[key]:.2f} s before a fault, was done again: "
                    f"{rounds} rounds, {limit} allowed"
                )
        first[key] = _ended(step)
    excess = len(calls) - sum(case.calls.values())
    hidden = sum(_unreported(case, calls, pid) for fault in faults for pid in fault.pids)
    known = sum(case.calls[key] for key in again)
    if excess > known + hidden:
        broken.append(f"{excess} calls too many: {known} reported, {hidden} unreported")
    if excess < 0:
        broken.append(f"{-excess} calls were never made")
    if late > 2 * WORKERS * len(ends):
        broken.append(f"{late} steps in flight were repeated after {len(ends)} faults")
    mean = sum(case.calls.values()) / len(case.calls)
    return Cost(len(case.calls), len(again), excess / mean, oldest, broken)


def _ended(step: Line) -> float:
    spent = step["seconds"]
    return float(step["started"] + sum(spent[x] for x in ("gradient", "noise", "denoise")))


def _rounds(case: Case, steps: list[Line], tile: str, done: float, fault: float) -> tuple[int, int]:
    """Rounds between ``done + checkpoint_every`` and the fault, and how many there may be."""
    unit = next(group for group in case.plan.groups if any(t.name == tile for t in group))
    names = {t.name for t in unit}
    mine = sorted((_ended(s), s["tile"], s["iteration"]) for s in steps if s["tile"] in names)

    def progress(moment: float) -> int:
        last: dict[str, int] = {}
        for ended, name, iteration in mine:
            if ended <= moment:
                last[name] = iteration + 1
            elif name not in last:
                last[name] = iteration  # where it went on from
        return min(last.values())

    rows, columns = (len({t.write_box.start[axis] for t in unit}) for axis in (1, 2))
    allowed = max(rows, columns) - 1 + 2
    due = min(done + case.interval, fault)
    if progress(due) - progress(done) < allowed:
        allowed *= 2
    return progress(fault) - progress(min(due + SLACK, fault)), allowed


def _committed_again(case: Case, lines: list[Line]) -> list[str]:
    """Steps that lead up to a committed generation and were begun after its commit."""
    unit_of = {tile.name: unit_name(group) for group in case.plan.groups for tile in group}
    commits: dict[str, list[tuple[float, int]]] = defaultdict(list)
    broken = []
    for line in lines:
        match line["event"]:
            case "commit":
                commits[line["unit"]].append((line["at"], line["iteration"]))
            case "SaveEvent" if case.kind == "free":
                commits[unit_of[line["tile"]]].append((line["at"], line["iteration"]))
            case "StepEvent":
                made = commits[unit_of[line["tile"]]]
                before = max((n for at, n in made if at < line["started"]), default=0)
                if line["iteration"] < before:
                    where = f"{line['tile']}, {line['iteration']}"
                    broken.append(f"{where} was begun after {before} had been committed")
    return broken


def _finished_again(lines: list[Line]) -> list[str]:
    """Tiles that were finished when a session began and were computed in it."""
    done: set[str] = set()
    broken = []
    for line in lines:
        if line["event"] == "begin":
            done = set(line["done"])
        elif line["event"] == "StepEvent" and line["tile"] in done:
            broken.append(f"{line['tile']} was finished, and done again")
    return broken


def _unreported(case: Case, calls: list[Call], pid: int) -> int:
    """Calls that a killed worker may have made without anybody hearing of them."""
    two = 2 * max(case.calls.values())
    if case.kind != "free":
        return two
    mine = [call.time for call in calls if call.pid == pid]
    return sum(t >= max(mine) - case.interval for t in mine) + two
