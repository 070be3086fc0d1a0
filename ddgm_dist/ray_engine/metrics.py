"""What a run tells Prometheus through Ray: counters and gauges, of the driver.

Ray exports them with the prefix ``ray_``. Tags are few (the run, and phases or kinds): a tag per tile
would make a series each. Figures are added up here and handed to Ray once a second, for a call of
Ray's costs more than an event.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict

from ray.util.metrics import Counter, Gauge

from ddgm_dist.engine.coverage import Coverage
from ddgm_dist.engine.faults import Action
from ddgm_dist.tile.events import Event, FaultEvent, PoolEvent, Receipt, SaveEvent, StepEvent

__all__ = ["METRICS", "RayMetrics"]

EVERY = 1.0

# Name -> kind, meaning, tag beside the run.
METRICS: dict[str, tuple[str, str, str | None]] = {
    "ddgm_voxels_total": ("counter", "voxels of the volume, iterations counted separately", None),
    "ddgm_iterations_total": ("counter", "iterations of tiles", None),
    "ddgm_phase_seconds_total": ("counter", "worker seconds", "phase"),
    "ddgm_faults_total": ("counter", "faults, by kind", "kind"),
    "ddgm_checkpoint_bytes_total": ("counter", "bytes of checkpoints", None),
    "ddgm_checkpoint_seconds_total": ("counter", "seconds that checkpoints took", None),
    "ddgm_tiles_done_total": ("counter", "tiles written", None),
    "ddgm_residual": ("gauge", "root-mean-square residual of the last steps, normalised", None),
    "ddgm_workers": ("gauge", "workers ready", None),
    "ddgm_last_checkpoint_timestamp_seconds": ("gauge", "when the last checkpoint was made", None),
    "ddgm_last_progress_timestamp_seconds": ("gauge", "when a step or a tile was last done", None),
    "ddgm_last_saved_timestamp_seconds": (
        "gauge",
        "when a checkpoint or a tile was last written: what came since would be done again",
        None,
    ),
    "ddgm_checkpoint_every_seconds": ("gauge", "time between checkpoints, as configured", None),
    "ddgm_losses_in_a_row": ("gauge", "workers lost since anything was last done", None),
    "ddgm_losses_allowed": ("gauge", "losses in a row after which the run is given up", None),
    "ddgm_progress_ratio": ("gauge", "work done, of the whole", None),
}
_LOSSES = (Action.REPLACE, Action.THROTTLE)


class RayMetrics:
    """Takes events; call :meth:`flush` at the end.

    Parameters
    ----------
    run
        Value of the tag ``run``.
    total
        Voxels times iterations of the whole volume.
    before
        Of these, done by earlier sessions.
    checkpoint_every
        Seconds, as configured.
    losses_allowed
        Of workers in a row.
    """

    def __init__(
        self,
        run: str,
        total: int,
        before: int = 0,
        *,
        checkpoint_every: float = 0.0,
        losses_allowed: int = 0,
    ) -> None:
        self.total, self.before = max(1, total), before
        self._coverage = Coverage()
        self._metrics: dict[str, Counter | Gauge] = {}
        for name, (kind, meaning, tag) in METRICS.items():
            keys = ("run",) if tag is None else ("run", tag)
            made = (Counter if kind == "counter" else Gauge)(name, meaning, tag_keys=keys)
            made.set_default_tags({"run": run})
            self._metrics[name] = made
        self._sums: defaultdict[tuple[str, str | None], float] = defaultdict(float)
        now, self._losses = time.time(), 0
        # Before anything is done, these tell when the session began: a run that waits is told of too.
        self._gauges: dict[str, float] = {
            "ddgm_last_progress_timestamp_seconds": now,
            "ddgm_last_saved_timestamp_seconds": now,
            "ddgm_checkpoint_every_seconds": checkpoint_every,
            "ddgm_losses_allowed": losses_allowed,
        }
        self._squared = self._measured = 0.0
        self.flush()

    def __call__(self, event: Event) -> None:
        """Count one event."""
        sums, gauges = self._sums, self._gauges
        match event:
            case StepEvent():
                sums["ddgm_voxels_total", None] += event.voxels
                sums["ddgm_iterations_total", None] += 1
                self._coverage.add(event.tile, event.iteration, event.voxels)
                self._squared += event.residual
                self._measured += event.measured
                self._phases(event.seconds)
                self._advanced()
            case SaveEvent():
                sums["ddgm_checkpoint_bytes_total", None] += event.bytes
                sums["ddgm_checkpoint_seconds_total", None] += event.seconds
                when = event.started + event.seconds
                gauges["ddgm_last_checkpoint_timestamp_seconds"] = when
                gauges["ddgm_last_saved_timestamp_seconds"] = when
                self._losses = 0
            case FaultEvent():
                sums["ddgm_faults_total", event.kind] += 1
                self._losses += event.action in _LOSSES
            case Receipt():
                sums["ddgm_tiles_done_total", None] += 1
                self._phases(event.more)
                self._coverage.finish(event.tile, event.work)
                self._advanced()
                gauges["ddgm_last_saved_timestamp_seconds"] = time.time()
            case PoolEvent():
                gauges["ddgm_workers"] = event.workers
        if time.monotonic() - self._flushed >= EVERY:
            self.flush()

    def _advanced(self) -> None:
        self._gauges["ddgm_last_progress_timestamp_seconds"] = time.time()
        self._losses = 0

    def _phases(self, seconds: dict[str, float]) -> None:
        for phase, value in seconds.items():
            self._sums["ddgm_phase_seconds_total", phase] += value

    def flush(self) -> None:
        """Hand what has come to Ray."""
        self._flushed = time.monotonic()
        for (name, tag), value in self._sums.items():
            key = METRICS[name][2]
            tags = {} if key is None or tag is None else {key: tag}
            if value > 0:
                metric = self._metrics[name]
                assert isinstance(metric, Counter)
                metric.inc(value, tags)
        self._sums.clear()
        if self._measured:
            self._gauges["ddgm_residual"] = math.sqrt(self._squared / self._measured)
            self._squared = self._measured = 0.0
        done = self.before + self._coverage.done
        self._gauges["ddgm_progress_ratio"] = min(1.0, done / self.total)
        self._gauges["ddgm_losses_in_a_row"] = self._losses
        for name, level in self._gauges.items():
            gauge = self._metrics[name]
            assert isinstance(gauge, Gauge)
            gauge.set(level)
        self._gauges = {}
