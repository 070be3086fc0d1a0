"""The plan of a run: what it would take, before anything is computed."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddgm_dist.operators.slab.basis import period
from ddgm_dist.paths.locate import locate
from ddgm_dist.pixels.findings import Finding
from ddgm_dist.planning.config import Config, PlanConfig, parse_config
from ddgm_dist.planning.make_plan import make_plan
from ddgm_dist.planning.plan import Plan
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.tiling import widest_read
from ddgm_dist.prior.denoisers import shared_denoiser
from ddgm_dist.runs.build_problem import build_problem
from ddgm_dist.runs.calibrate import estimate_runtime
from ddgm_dist.runs.expected_fit import expect
from ddgm_dist.tile.host import available_memory
from ddgm_dist.tile.start import start_restorer
from ddgm_dist.tilts.series import TiltSeries

__all__ = ["plan", "plan_problem"]

log = logging.getLogger("ddgm_dist")


def plan(
    tilts: str | Path,
    config: Config | Mapping[str, Any] | None = None,
    *,
    workers: int | None = None,
    memory: int | None = None,
    calibrate: bool = False,
    check_fit: bool = True,
    verify_input: bool = False,
    progress: bool = False,
) -> Plan:
    """Plan a reconstruction: tiles, memory and, with calibration, time.

    Besides calibration, a quick fit of a few rows is all that is computed.

    Parameters
    ----------
    tilts
        Tilt-series store.
    config
        Configuration keys; see :class:`ddgm_dist.planning.config.Config`.
    workers
        Number of workers that share the tiles.
    memory
        Bytes one worker may use; unbounded when None, or its share of this machine with
        ``calibrate``.
    calibrate
        Time the steps on this machine, for a few seconds, and estimate how long the run would take
        (:attr:`ddgm_dist.planning.plan.Plan.expected`).
    check_fit
        Fit a few rows, for some seconds at most, and say whether any volume can explain the data
        (:attr:`ddgm_dist.planning.plan.Plan.expected_fit`).
    verify_input
        Read all pixels and compare their digests with those stored beside them.
    progress
        Show on standard error how far a series is read that has no digests.

    Raises
    ------
    InputError
        If the input or the configuration cannot be used, or no plan fits the memory.
    """
    resolved = parse_config(config)
    began = time.perf_counter()
    built = build_problem(
        locate(tilts, "tilts"), resolved.problem(), verify_input=verify_input, progress=progress
    )
    problem, series = built.problem, built.series
    building = time.perf_counter() - began
    if calibrate and memory is None and (free := available_memory()) is not None:
        memory = free // (workers or 1)  # as a run here would have it
    found = plan_problem(problem, series, resolved, memory, workers=workers)
    fit, unlike = expect(built) if check_fit else (None, None)
    findings = built.findings
    if unlike is not None:
        log.warning("%s: %s", series.path, unlike)
        findings = (*findings, Finding("prior", 1, (), unlike))
    found = replace(
        found,
        findings=findings,
        intensity=problem.intensity,
        expected_fit=fit,
    )
    if not calibrate:
        return found
    return replace(found, expected=estimate_runtime(problem, found, series, building=building))


def plan_problem(
    problem: Problem,
    series: TiltSeries,
    config: Config,
    memory: int | None,
    *,
    workers: int | None = None,
    calls: int = 2,
) -> Plan:
    """The plan of a problem; see :func:`ddgm_dist.planning.make_plan.make_plan`.

    Parameters
    ----------
    problem, series
        The problem and its data.
    config
        The configuration, of which the plan keys count.
    memory
        Bytes one worker may use; unbounded when None.
    workers
        Number of workers.
    calls
        Calls that each worker takes at a time.
    """
    denoiser = shared_denoiser(config.denoiser, precision=config.precision)
    restorer = start_restorer(problem.config)
    return make_plan(
        problem,
        PlanConfig(**{k: getattr(config, k) for k in PlanConfig.model_fields}),
        length=period(problem.geometry, widest_read(problem.geometry, problem.config)),
        memory=memory,
        itemsize=series.dtype.itemsize,
        workers=workers or 1,
        calls=calls,
        activation=denoiser.activation,
        **({} if restorer is None else {"restorer_activation": restorer.activation}),
    )
