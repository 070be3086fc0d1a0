"""The figures of a run for Prometheus: counters and gauges of the driver, exported by Ray.

Ray exports them with the prefix ``ray_``. Tags are few (the run, and phases or kinds): a tag per tile
would make a series each. They are read from the tally once a second, because a call of Ray's costs
more than an event.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType

from ray.util.metrics import Counter, Gauge

from ddgm_dist.engine.tally import Tally
from ddgm_dist.tile.events import Event

__all__ = ["METRICS", "RayMetrics"]

EVERY = 1.0


@dataclass(frozen=True)
class Metric:
    """One metric of a tally.

    Attributes
    ----------
    meaning
        Description that Ray exports.
    read
        Its value, or values by tag; None while there is none.
    tag
        Name of the tag beside the run.
    """

    meaning: str
    read: Callable[[Tally], float | Mapping[str, float] | None] = lambda tally: None
    tag: str | None = None

    def values(self, tally: Tally) -> Iterable[tuple[str, float]]:
        """Values by tag, which is empty where there is none."""
        found = self.read(tally)
        if isinstance(found, Mapping):
            return found.items()
        return [] if found is None else [("", found)]

    @property
    def tag_keys(self) -> tuple[str, ...]:
        """Names of all its tags."""
        return ("run",) if self.tag is None else ("run", self.tag)


def _residual(tally: Tally) -> float | None:
    last = tally.last
    return None if last is None else tally.residual(last.iteration) / tally.problem.intensity.std


_COUNTERS = {
    "ddgm_voxels_total": Metric(
        "voxels of the volume, iterations counted separately",
        lambda tally: tally.coverage.voxels + tally.coverage.repeated,
    ),
    "ddgm_iterations_total": Metric("iterations of tiles", lambda tally: tally.steps),
    "ddgm_phase_seconds_total": Metric("worker seconds", lambda tally: tally.seconds, "phase"),
    "ddgm_faults_total": Metric("faults, by kind", lambda tally: tally.faults, "kind"),
    "ddgm_checkpoint_bytes_total": Metric("bytes of checkpoints", lambda tally: tally.saved_bytes),
    "ddgm_checkpoint_seconds_total": Metric(
        "seconds that checkpoints took", lambda tally: tally.saved_seconds
    ),
    "ddgm_tiles_done_total": Metric("tiles written", lambda tally: tally.tiles_done),
}
_GAUGES = {
    "ddgm_residual": Metric(
        "root-mean-square residual of the latest iteration, normalised", _residual
    ),
    "ddgm_workers": Metric("workers ready", lambda tally: tally.workers),
    "ddgm_last_checkpoint_timestamp_seconds": Metric(
        "when the last checkpoint was made", lambda tally: tally.checkpointed
    ),
    "ddgm_last_progress_timestamp_seconds": Metric(
        "when a step or a tile was last done", lambda tally: tally.progressed
    ),
    "ddgm_last_saved_timestamp_seconds": Metric(
        "when a checkpoint or a tile was last written: what came since would be done again",
        lambda tally: tally.secured,
    ),
    "ddgm_losses_in_a_row": Metric(
        "workers lost since anything was last done", lambda tally: tally.losses_in_a_row
    ),
    "ddgm_progress_ratio": Metric(
        "work done, of the whole", lambda tally: tally.done / max(1, tally.total)
    ),
    # Settings of the run, set once.
    "ddgm_checkpoint_every_seconds": Metric("time between checkpoints, as configured"),
    "ddgm_losses_allowed": Metric("losses in a row after which the run is given up"),
}
METRICS = {**_COUNTERS, **_GAUGES}


class RayMetrics:
    """Shows a tally as metrics: called after each event, and a context manager.

    Parameters
    ----------
    run
        Value of the tag ``run``.
    tally
        The figures of the run.
    checkpoint_every
        Seconds between checkpoints, as configured.
    losses_allowed
        Workers that may be lost in a row.
    """

    def __init__(
        self, run: str, tally: Tally, *, checkpoint_every: float, losses_allowed: int
    ) -> None:
        self.tally = tally

        self._counters = {
            name: Counter(name, metric.meaning, tag_keys=metric.tag_keys)
            for name, metric in _COUNTERS.items()
        }
        self._gauges = {
            name: Gauge(name, metric.meaning, tag_keys=metric.tag_keys)
            for name, metric in _GAUGES.items()
        }
        for made in (*self._counters.values(), *self._gauges.values()):
            made.set_default_tags({"run": run})
        # What counters were given, by name and tag; at first what is not of this session.
        self._given = {
            (name, tag): value
            for name, metric in _COUNTERS.items()
            for tag, value in metric.values(tally)
        }
        self._gauges["ddgm_checkpoint_every_seconds"].set(checkpoint_every)
        self._gauges["ddgm_losses_allowed"].set(losses_allowed)
        self.flush()

    def __enter__(self) -> RayMetrics:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.flush()

    def __call__(self, event: Event) -> None:
        """Hand the tally's figures to Ray, once a second."""
        if time.monotonic() - self._flushed >= EVERY:
            self.flush()

    def flush(self) -> None:
        """Hand the tally's figures to Ray."""
        self._flushed = time.monotonic()
        for name, metric in _COUNTERS.items():
            for tag, value in metric.values(self.tally):
                more = value - self._given.get((name, tag), 0.0)
                if more > 0:
                    tags = {} if metric.tag is None else {metric.tag: tag}
                    self._counters[name].inc(more, tags)
                    self._given[name, tag] = value
        for name, metric in _GAUGES.items():
            for _, value in metric.values(self.tally):
                self._gauges[name].set(value)
