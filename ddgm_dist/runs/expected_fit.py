"""A quick look at whether any volume can explain the data, before the run.

It takes the fit of a few rows that the estimate of the misfit has made, or makes it now. Without a prior
such a fit follows part of the noise, but it cannot follow what contradicts the geometry. So its residual
keeps the structure that the run's will have, and of the noise less. The limits are higher than those
of the final verdict.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace

from ddgm_dist.errors import StorageError
from ddgm_dist.planning.problem import Problem
from ddgm_dist.prior.denoisers import shared_denoiser
from ddgm_dist.prior.likeness import Likeness, mismatches
from ddgm_dist.records.fit import Fit, Limits
from ddgm_dist.runs.build_problem import BuiltProblem
from ddgm_dist.tilts.sampled_fit import fit_sampled_rows

__all__ = ["expect", "warn_of_prior"]

log = logging.getLogger("ddgm_dist")

_LIMITS = Limits(structure=0.15, misfit=0.02, ratio=0.0)


def expect(built: BuiltProblem) -> tuple[Fit | None, str | None]:
    """The verdict on a fit of a few rows, and how the specimen is unlike the training images.

    Nothing is read where the series' record, or the estimate of the misfit, has the fit.

    Returns
    -------
    Fit
        None where nothing was measured.
    str
        A line for people; None where nothing is clearly unlike.

    Raises
    ------
    StorageError
        Pixels that are read are damaged or missing.
    """
    problem, series = built.problem, built.series
    found = None if built.estimate is None else built.estimate.fit
    if found is None:
        found = fit_sampled_rows(series, problem.geometry, problem.intensity, problem.screen).rows
    fit = Fit.judge(
        found.sums,
        replace(problem.intensity, std=found.std),
        found.rows / problem.geometry.rows,
        _LIMITS,
        names=series.meta.views,
        beam=series.meta.beam_origin,
    )
    # What contradicts the geometry is smeared, and has no detail of the specimen.
    sound = fit is not None and fit.explained
    return fit, _compare(problem, found.likeness) if sound else None


def warn_of_prior(built: BuiltProblem) -> None:
    """Log one warning if the specimen is clearly unlike what the denoiser was trained on."""
    if _trained(built.problem) is None:
        return
    with contextlib.suppress(StorageError):  # the run reads the same, and says more
        unlike = expect(built)[1]
        if unlike is not None:
            log.warning("%s: %s", built.series.path, unlike)


def _trained(problem: Problem) -> Likeness | None:
    """Statistics of the training images; None where they are unknown, or do not apply."""
    if problem.geometry.boundary == "vacuum":
        return None
    config = problem.config
    return shared_denoiser(config.denoiser, precision=config.precision).likeness


def _compare(problem: Problem, found: Likeness | None) -> str | None:
    trained = _trained(problem)
    said = () if trained is None or found is None else mismatches(found, trained)
    if not said:
        return None
    return f"the specimen is unlike what the denoiser was trained on: {'; '.join(said)}"
