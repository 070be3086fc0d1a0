"""A quick look at whether any volume can explain the data, before the run.

A few rows are fitted by conjugate gradients. With so few steps, and no prior, the fit follows part of
the noise, but it cannot follow what contradicts the geometry. So its residual keeps the structure that
the run's will have, and of the noise less. The limits are higher than those of the final verdict.
"""

from __future__ import annotations

import math
from dataclasses import replace

from ddgm_dist.baselines.cgls import cgls
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.view_sums import ViewSums
from ddgm_dist.operators.slab.basis import period
from ddgm_dist.operators.slab.operator import SlabOperator
from ddgm_dist.operators.slab.stretch import DetectorPart
from ddgm_dist.planning.problem import Problem
from ddgm_dist.records.fit import Fit, Limits
from ddgm_dist.tile.fit import sums_of_block
from ddgm_dist.tilts.rows import read_rows
from ddgm_dist.tilts.series import TiltSeries

__all__ = ["expect_fit"]

# Blocks of rows, and steps of conjugate gradients.
_PLACES, _STEPS = 3, 20
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
    geometry, part = _cropped(problem.geometry)
    width = geometry.domain[1] - geometry.domain[0]
    if (period(geometry, width) // 2 + 1) * geometry.tilts * geometry.thickness > _MOST:
        return None
    vacuum = problem.intensity.vacuum if geometry.boundary == "vacuum" else 0.0
    operator = SlabOperator(geometry, background=vacuum)
    sums, seen = ViewSums.zero(geometry.tilts), 0
    for row in _rows(geometry.rows, problem.rows_per_call):
        stop = min(geometry.rows, row + problem.rows_per_call)
        projections, valid = read_rows(
            series, problem.geometry, problem.intensity, row, stop, part, screen=problem.screen
        )
        data = operator.prepare(projections, valid)
        ((_, estimate),) = cgls(operator, data, [_STEPS], start=vacuum)
        sums += sums_of_block(operator, estimate, data)
        seen += stop - row
    return Fit.judge(
        sums,
        problem.intensity,
        seen / geometry.rows,
        _LIMITS,
        names=series.meta.views,
        beam=series.meta.beam_origin,
    )


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
