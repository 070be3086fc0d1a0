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
        Reads the value, or values by tag; None while there is none.
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


def _residual(tally: Tally) -> float | None:
    last = tally.last
    return None if last is None else tally.residual(last.iteration) / tally.problem.intensity.std


# Counters are those that end in ``_total``.
METRICS = {
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
    # Settings of the run.
    "ddgm_checkpoint_every_seconds": Metric("time between checkpoints, as configured"),
    "ddgm_losses_allowed": Metric("losses in a row after which the run is given up"),
}


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
        self._shown: dict[str, Counter | Gauge] = {}
        # What counters were given, by name and tag; at first what is not of this session.
        self._given: dict[tuple[str, str], float] = {}
        for name, metric in METRICS.items():
            made = Counter if name.endswith("_total") else Gauge
            keys = ("run",) if metric.tag is None else ("run", metric.tag)
            self._shown[name] = made(name, metric.meaning, tag_keys=keys)
            self._shown[name].set_default_tags({"run": run})
            self._given |= {(name, tag): value for tag, value in metric.values(tally)}
        self._settings = {
            "ddgm_checkpoint_every_seconds": checkpoint_every,
            "ddgm_losses_allowed": losses_allowed,
        }
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
        # Again and again: Ray forgets what it was given before it was started.
        for name, setting in self._settings.items():
            self._show(name, setting)
        for name, metric in METRICS.items():
            for tag, value in metric.values(self.tally):
                self._show(name, value, tag)

    def _show(self, name: str, value: float, tag: str = "") -> None:
        shown, key = self._shown[name], METRICS[name].tag
        if isinstance(shown, Gauge):
            shown.set(value)
        elif (more := value - self._given.get((name, tag), 0.0)) > 0:
            shown.inc(more, {} if key is None else {key: tag})
            self._given[name, tag] = value
