"""A warning where a series is not of the kind that its restorer was trained for."""

from __future__ import annotations

import contextlib
import math

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.errors import StorageError
from ddgm_dist.operators.slab.stretch import DetectorPart
from ddgm_dist.pixels.findings import Finding
from ddgm_dist.planning.problem import Problem
from ddgm_dist.prior.restorers import LoadedRestorer
from ddgm_dist.tilts.rows import read_rows
from ddgm_dist.tilts.series import TiltSeries

__all__ = ["untrained"]

# Columns in the middle of the field from which the projections' deviation is taken.
_COLUMNS = 2048


def untrained(
    problem: Problem, series: TiltSeries, restorer: LoadedRestorer | None
) -> tuple[Finding, ...]:
    """At most one finding, which names the numbers that lie outside of the restorer's training."""
    if restorer is None or restorer.trained is None:
        return ()
    noise: float | None = None
    with contextlib.suppress(StorageError):  # the run reads the same, and says more
        noise = _relative_noise(problem, series)
    said = restorer.trained.outside(Acquisition.of(problem.geometry), noise)
    if not said:
        return ()
    text = (
        f"the restorer was not trained for such a series: {'; '.join(said)}. Its start may mislead "
        "the iterations; start: zero does without it"
    )
    return (Finding("prior", 1, (), text),)


def _relative_noise(problem: Problem, series: TiltSeries) -> float | None:
    """Noise as a fraction of the projections' standard deviation; None where they are noise alone."""
    geometry, intensity = problem.geometry, problem.intensity
    width = min(geometry.field, _COLUMNS)
    part = DetectorPart(((geometry.field - width) // 2,) * geometry.tilts, width)
    first = max(0, geometry.rows - problem.rows_per_call) // 2
    stop = min(geometry.rows, first + problem.rows_per_call)
    seen, valid = read_rows(series, geometry, intensity, first, stop, part, screen=problem.screen)
    count = seen.numel() if valid is None else float(valid.sum())
    squared = float((seen.double() if valid is None else seen.double() * valid).square().sum())
    noise = intensity.uncertainty / intensity.std
    signal = squared / max(count, 1.0) - intensity.relative_noise**2
    return noise / math.sqrt(signal) if signal > 0 else None
