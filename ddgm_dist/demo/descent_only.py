"""Gradient descent alone on a tilt-series store, in memory: what DDGM is measured against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.baselines.gradient import gradient_descent
from ddgm_dist.operators.slab.operator import SlabOperator
from ddgm_dist.paths.locate import locate
from ddgm_dist.planning.config import Config, parse_config
from ddgm_dist.runs.build_problem import build_problem
from ddgm_dist.tilts.rows import read_rows

__all__ = ["STOPS", "descend_only"]

STOPS = (5, 10, 25, 50, 100, 200, 400, 800, 1600)


def descend_only(
    tilts: str | Path,
    config: Config | Mapping[str, Any] | None = None,
    stops: Sequence[int] = STOPS,
) -> dict[int, NDArray[np.float32]]:
    """Volumes after each number of gradient steps, in the data's unit.

    Parameters
    ----------
    tilts
        Tilt-series store; all its rows must fit memory.
    config
        Keys of ``reconstruct``; intensity, thickness, boundary and step size matter.
    stops
        Increasing numbers of steps.

    Returns
    -------
    dict
        Steps to volume, float32 ``(z, y, x)`` over the field.
    """
    built = build_problem(locate(tilts, "tilts"), parse_config(config).problem())
    problem, series = built.problem, built.series
    geometry, intensity = problem.geometry, problem.intensity
    vacuum = intensity.vacuum if geometry.boundary == "vacuum" else 0.0
    operator = SlabOperator(geometry, background=vacuum)
    projections, valid = read_rows(
        series, geometry, intensity, 0, geometry.rows, screen=problem.screen
    )
    data = operator.prepare(projections, valid)
    first = -geometry.domain[0]
    return {
        K: intensity.restore(x[..., first : first + geometry.field]).numpy()
        for K, x in gradient_descent(operator, data, stops, problem.step_size, start=vacuum)
    }
