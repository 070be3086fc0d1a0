"""The provenance of a volume: settings, input, versions of packages, and figures of the run."""

from __future__ import annotations

import platform
import time
from importlib import metadata
from typing import Any

from ddgm_dist.engine.protocol import Engine
from ddgm_dist.planning.config import Config
from ddgm_dist.planning.problem import Problem
from ddgm_dist.runs.result import Result
from ddgm_dist.tilts.series import TiltSeries

__all__ = ["provenance"]

_PACKAGES = ("ddgm-dist", "torch", "ray", "zarr", "tensorstore", "numpy", "numcodecs")


def provenance(
    result: Result, config: Config, engine: Engine, series: TiltSeries
) -> dict[str, Any]:
    """The provenance of a volume, as plain JSON values.

    Parameters
    ----------
    result
        What came of the run.
    config
        Its whole configuration.
    engine
        The engine that computed it.
    series
        The tilt series.
    """
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "unknown"
    return {
        "config": config.model_dump(),
        "problem": result.problem.digest(),
        "denoiser": {"name": config.denoiser, "sha256": result.problem.denoiser_digest},
        **_restorer(result.problem),
        "noise": {
            "sigma_y": result.problem.intensity.sigma_y,
            "misfit": result.problem.intensity.misfit,
        },
        "tilts": {"path": series.path, "sha256": result.problem.data_digest},
        "versions": versions,
        "engine": {"name": engine.name, "workers": engine.workers},
        "tiles": len(result.plan.tiles),
        "order": result.plan.order,
        "wall_seconds": result.wall_seconds,
        "worker_seconds": result.seconds,
        "gradient_share": result.gradient_share,
        "iterations": result.residuals,
        "fit": None if result.fit is None else result.fit.to_dict(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _restorer(problem: Problem) -> dict[str, Any]:
    """The restorer, where tiles began with it."""
    if problem.restored is None:
        return {}
    digest = problem.restored.restorer.digest
    return {"restorer": {"name": problem.config.restorer, "sha256": digest}}
