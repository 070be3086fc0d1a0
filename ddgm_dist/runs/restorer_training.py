"""Warnings about a restorer: it is not used, or was not trained for such a series."""

from __future__ import annotations

import contextlib
import math

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.errors import StorageError
from ddgm_dist.operators.slab.stretch import DetectorPart
from ddgm_dist.pixels.findings import Finding
from ddgm_dist.planning.problem import Problem
from ddgm_dist.prior.network_cache import SHIPPED
from ddgm_dist.prior.restorers import LoadedRestorer
from ddgm_dist.tilts.rows import read_rows
from ddgm_dist.tilts.series import TiltSeries

__all__ = ["about_restorer"]

# Columns in the middle of the field from which the projections' deviation is taken.
_COLUMNS = 2048


def about_restorer(
    problem: Problem, series: TiltSeries, restorer: LoadedRestorer | None
) -> tuple[Finding, ...]:
    """Findings about the restorer, at most three; none where the start is zero as by default.

    A restorer was chosen, and the start does without it. Or numbers of the series lie outside of the
    restorer's training; or its recipe has words for that which are not known here.
    """
    texts = [_unused(problem)] if restorer is None else _untrained(problem, series, restorer)
    return tuple(Finding("prior", 1, (), text) for text in texts if text)


def _unused(problem: Problem) -> str:
    name = problem.config.restorer
    if name == SHIPPED:
        return ""
    return (
        f"the restorer {name} is not used, for iterations begin from zero; start: restored begins "
        "from what it makes of the data"
    )


def _alike(problem: Problem) -> str:
    """A warning where samples are closer to each other than to the truth, since they share a start."""
    config = problem.config
    if config.samples == 1 or (config.added_noise and not config.start_share):
        return ""
    share = f"start_share = {config.start_share:g}" if config.start_share else "added_noise = 0"
    return (
        f"{config.samples} samples share their restored start, and {share}: their deviation says less "
        "than the error is; added_noise above 0 and start_share 0 make them differ more"
    )


def _untrained(problem: Problem, series: TiltSeries, restorer: LoadedRestorer) -> list[str]:
    texts = [_alike(problem)]
    if restorer.trained is None:
        return texts
    noise: float | None = None
    with contextlib.suppress(StorageError):  # the run reads the same, and says more
        noise = _relative_noise(problem, series)
    if said := restorer.trained.outside(
        Acquisition.of(problem.geometry), noise, problem.config.restorer_calls
    ):
        texts.append(
            f"the restorer was not trained for such a series: {'; '.join(said)}. Its start may mislead "
            "the iterations; start: zero (preset: classic) does without it"
        )
    if said := restorer.trained.unread():
        texts.append(
            f"the restorer's recipe has keys in trained_for that are not known here: {', '.join(said)}. "
            "The series was compared with the others only"
        )
    return texts


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
