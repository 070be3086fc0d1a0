"""The figures of a run, counted once: progress bar, event log, metrics and result read them here."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ddgm_dist.engine.coverage import Coverage
from ddgm_dist.engine.faults import Action
from ddgm_dist.planning.plan import Plan
from ddgm_dist.planning.problem import Problem
from ddgm_dist.tile.events import Event, FaultEvent, PoolEvent, Receipt, SaveEvent, StepEvent

__all__ = ["Tally"]

# Actions that cost a worker.
_LOSSES = (Action.REPLACE, Action.THROTTLE)


@dataclass
class Tally:
    """Sums over the events of one session of a run. Times are seconds since the epoch.

    Attributes
    ----------
    problem
        Gives the unit of the residual.
    total, before
        Work of the whole run, voxels times iterations; what of it earlier sessions finished.
    tiles, tiles_done
        Tiles of the plan; those that are written, by earlier sessions too.
    coverage
        Work of this session: each iteration of each tile counts once.
    squared, samples
        Squared residual and number of measured samples, by iteration; each tile counts once.
    steps
        Iterations of tiles, repeated ones too.
    seconds
        Worker time by phase, added over workers; that of repeated work too.
    faults
        Number of faults, by kind.
    losses, losses_in_a_row
        Workers lost; those lost since anything was last done or saved.
    saved_bytes, saved_seconds
        Size of checkpoints, before compression; time that workers took to write them.
    workers, span
        Workers that are ready; least and most iterations done in coupled tiles under way.
    last
        The latest step.
    started
        Time at which the session began.
    working
        Time at which the first step began; None before one is done.
    last_event
        Time of the latest event; None before one has come.
    progressed, secured
        When a step or a tile was last done; when a checkpoint or a tile was last written. Before that,
        when the session began.
    checkpointed
        Time of the latest checkpoint; None before one is written.
    """

    problem: Problem
    total: int = 0
    before: int = 0
    tiles: int = 0
    tiles_done: int = 0
    coverage: Coverage = field(default_factory=Coverage)
    squared: dict[int, float] = field(default_factory=dict)
    samples: dict[int, float] = field(default_factory=dict)
    steps: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    losses: int = 0
    losses_in_a_row: int = 0
    saved_bytes: int = 0
    saved_seconds: float = 0.0
    workers: int = 0
    span: tuple[int, int] | None = None
    last: StepEvent | None = None
    started: float = field(init=False)
    working: float | None = None
    last_event: float | None = None
    progressed: float = field(init=False)
    secured: float = field(init=False)
    checkpointed: float | None = None

    def __post_init__(self) -> None:
        self.started = self.progressed = self.secured = time.time()

    @classmethod
    def begin(cls, problem: Problem, plan: Plan, done: Collection[str]) -> Tally:
        """The tally of a session that begins when tiles of these names are written."""
        voxels = sum(tile.write_box.size for tile in plan.tiles if tile.name in done)
        return cls(problem, plan.work, voxels * plan.iterations, plan.units, len(done))

    def add(self, event: Event) -> None:
        """Count one event."""
        now = time.time()
        match event:
            case PoolEvent():
                self.workers = event.workers
                least, most = event.least, event.most
                self.span = None if least is None or most is None else (least, most)
                return
            case StepEvent():
                self._add_step(event, now)
            case SaveEvent():
                self.saved_bytes += event.bytes
                self.saved_seconds += event.seconds
                self.checkpointed = self.secured = event.started + event.seconds
                self.losses_in_a_row = 0
            case FaultEvent():
                lost = event.action in _LOSSES
                self.faults[event.kind] = self.faults.get(event.kind, 0) + 1
                self.losses, self.losses_in_a_row = self.losses + lost, self.losses_in_a_row + lost
            case Receipt():
                self.tiles_done += 1
                self.coverage.finish(event.tile, event.work)
                self._add_seconds(event.seconds_besides_steps)
                self.progressed, self.secured, self.losses_in_a_row = now, now, 0
        self.last_event = now

    def _add_step(self, event: StepEvent, now: float) -> None:
        if self.working is None:
            self.working = now - sum(event.seconds.values())
        self.last, self.progressed, self.losses_in_a_row = event, now, 0
        self.steps += 1
        self._add_seconds(event.seconds)
        if self.coverage.add(event.tile, event.iteration, event.voxels):
            n = event.iteration
            self.squared[n] = self.squared.get(n, 0.0) + event.residual
            self.samples[n] = self.samples.get(n, 0.0) + event.measured

    def _add_seconds(self, seconds: Mapping[str, float]) -> None:
        for phase, value in seconds.items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + value

    @property
    def done(self) -> int:
        """Work that is done, voxels times iterations, by earlier sessions too."""
        return min(self.total, self.before + self.coverage.done)

    @property
    def rate(self) -> float:
        """Work per second since the first step began: starting the workers is not slow work."""
        now = time.time()
        return self.coverage.voxels / max(now - (self.working or now), 1e-3)

    def residual(self, n: int) -> float:
        """Root-mean-square residual of iteration n in the data's unit, before its descent."""
        mean = self.squared.get(n, 0.0) / max(self.samples.get(n, 0.0), 1.0)
        return math.sqrt(mean) * self.problem.intensity.std

    def residuals(self) -> list[dict[str, float]]:
        """Per iteration: n, sigma, steps, residual."""
        sigma, steps = self.problem.schedule.sigma, self.problem.schedule.steps
        return [
            {"n": n, "sigma": sigma[n], "steps": steps[n], "residual": self.residual(n)}
            for n in sorted(self.squared)
        ]

    @property
    def gradient_share(self) -> float:
        """Gradient phase as a fraction of the iteration time (gradient, noise and denoising)."""
        parts = [self.seconds.get(p, 0.0) for p in ("gradient", "noise", "denoise")]
        return parts[0] / sum(parts) if sum(parts) > 0 else 0.0
