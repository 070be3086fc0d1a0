"""A quick look at whether any volume can explain the data, before the run.

A few rows are fitted by conjugate gradients. With so few steps, and no prior, the fit follows part of
the noise, but it cannot follow what contradicts the geometry. So its residual keeps the structure that
the run's will have, and of the noise less. The limits are higher than those of the final verdict.
"""

from __future__ import annotations

import contextlib
import logging
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.baselines.cgls import cgls
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.view_sums import ViewSums
from ddgm_dist.errors import StorageError
from ddgm_dist.operators.slab.basis import period
from ddgm_dist.operators.slab.operator import SlabOperator
from ddgm_dist.operators.slab.stretch import DetectorPart
from ddgm_dist.planning.problem import Problem
from ddgm_dist.prior.denoisers import shared_denoiser
from ddgm_dist.prior.likeness import Likeness, measure_likeness, mismatches
from ddgm_dist.records.fit import Fit, Limits
from ddgm_dist.tile.fit import sums_of_block
from ddgm_dist.tilts.rows import read_rows
from ddgm_dist.tilts.series import TiltSeries

__all__ = ["expect", "expect_fit", "warn_of_prior"]

log = logging.getLogger("ddgm_dist")

# Blocks of rows, and steps of conjugate gradients.
_PLACES, _STEPS = 3, 20
# Fewer leave less noise in a fit that is compared with the training images.
_FEW_STEPS = 12
# Columns of an extended specimen: a few hundred, and more where steep rays reach far.
_COLUMNS = 512
# Elements of the operator's matrices, above which a look would take more than seconds.
_MOST = 2**25
_LIMITS = Limits(structure=0.3, misfit=0.05, ratio=0.0)


def expect_fit(problem: Problem, series: TiltSeries) -> Fit | None:
    """The verdict on a quick fit of a few rows; None where that would take more than seconds.

    Raises
    ------
    StorageError
        Pixels that are read are damaged or missing.
    """
    return expect(problem, series)[0]


def expect(problem: Problem, series: TiltSeries) -> tuple[Fit | None, str | None]:
    """The verdict on a quick fit of a few rows, and how the fit is unlike the training images.

    Returns
    -------
    Fit
        None where it would take more than seconds.
    str
        A line for people; None where nothing is clearly unlike.

    Raises
    ------
    StorageError
        Pixels that are read are damaged or missing.
    """
    found = _look(problem, series)
    if found is None:
        return None, None
    fit = Fit.judge(
        found.sums,
        problem.intensity,
        found.rows / problem.geometry.rows,
        _LIMITS,
        names=series.meta.views,
        beam=series.meta.beam_origin,
    )
    # What contradicts the geometry is smeared, and has no detail of the specimen.
    sound = fit is not None and fit.explained
    return fit, _compare(problem, found.volumes) if sound else None


def warn_of_prior(problem: Problem, series: TiltSeries) -> None:
    """Log one warning if the specimen is clearly unlike what the denoiser was trained on."""
    if _trained(problem) is None:
        return
    with contextlib.suppress(StorageError):  # the run reads the same, and says more
        unlike = expect(problem, series)[1]
        if unlike is not None:
            log.warning("%s: %s", series.path, unlike)


def _trained(problem: Problem) -> Likeness | None:
    """Statistics of the training images; None where they are unknown, or do not apply."""
    if problem.geometry.boundary == "vacuum":
        return None
    config = problem.config
    return shared_denoiser(config.denoiser, precision=config.precision).likeness


def _compare(problem: Problem, volumes: list[NDArray[np.float32]]) -> str | None:
    trained, found = _trained(problem), measure_likeness(volumes)
    said = () if trained is None or found is None else mismatches(found, trained)
    if not said:
        return None
    return f"the specimen is unlike what the denoiser was trained on: {'; '.join(said)}"


@dataclass(frozen=True)
class _Look:
    """Sums of the last fit's residuals, the first fit, and the number of rows."""

    sums: ViewSums
    volumes: list[NDArray[np.float32]]
    rows: int


def _look(problem: Problem, series: TiltSeries) -> _Look | None:
    """Fit a few rows by few and by more steps; None where that would take more than seconds."""
    geometry, part = _cropped(problem.geometry)
    width = geometry.domain[1] - geometry.domain[0]
    if (period(geometry, width) // 2 + 1) * geometry.tilts * geometry.thickness > _MOST:
        return None
    vacuum = problem.intensity.vacuum if geometry.boundary == "vacuum" else 0.0
    operator = SlabOperator(geometry, background=vacuum)
    sums, seen = ViewSums.zero(geometry.tilts), 0
    volumes = list[NDArray[np.float32]]()
    for row in _rows(geometry.rows, problem.rows_per_call):
        stop = min(geometry.rows, row + problem.rows_per_call)
        projections, valid = read_rows(
            series, problem.geometry, problem.intensity, row, stop, part, screen=problem.screen
        )
        data = operator.prepare(projections, valid)
        first = -operator.columns[0]
        for count, estimate in cgls(operator, data, [_FEW_STEPS, _STEPS], start=vacuum):
            if count == _FEW_STEPS:
                volumes.append(estimate[:, :, first : first + geometry.field].numpy().copy())
            else:
                sums += sums_of_block(operator, estimate, data)
        seen += stop - row
    return _Look(sums, volumes, seen)


def _rows(rows: int, together: int) -> list[int]:
    """First rows of the blocks that are looked at, spread over the field."""
    last = max(0, rows - together)
    return sorted({round(last * (place + 1) / (_PLACES + 1)) for place in range(_PLACES)})


def _cropped(geometry: Geometry) -> tuple[Geometry, DetectorPart]:
    """Columns around the middle of the field, as a detector of that width would record them.

    A specimen in vacuum is taken whole: its rays cross all of it.
    """
    field = geometry.field
    width = min(field, max(_COLUMNS, 4 * geometry.reach))
    if geometry.boundary == "vacuum" or width == field:
        return geometry, DetectorPart((0,) * geometry.tilts, field)
    first, shifts = [], []
    for tilt in range(geometry.tilts):
        dy, dx = geometry.shift(tilt)
        begin = min(max(math.floor((field - width) / 2 + dx), 0), field - width)
        first.append(begin)
        shifts.append((dy, (field - width) / 2 + dx - begin))
    return replace(geometry, field=width, shifts_px=tuple(shifts)), DetectorPart(
        tuple(first), width
    )
