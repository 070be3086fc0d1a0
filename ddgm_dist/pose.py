"""Posing the problem: from a store and a configuration to everything that fixes the answer."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity, estimate_intensity, estimate_noise
from ddgm_dist.core.schedule import exponential, make_schedule
from ddgm_dist.core.window import make_lattice
from ddgm_dist.engine.measurements import repair
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab_basis import norm_squared
from ddgm_dist.plan.config import ProblemConfig
from ddgm_dist.plan.plan import widest_read
from ddgm_dist.plan.problem import Problem
from ddgm_dist.prior.denoisers import LoadedDenoiser, load_denoiser
from ddgm_dist.storage.tilt_series import TiltSeries, open_tilt_series

__all__ = ["pose_problem"]

# Rows that the intensity is estimated from: groups of neighbours, spread over the field.
SAMPLE_GROUPS, SAMPLE_ROWS = 8, 8


def pose_problem(tilts: str | Path, config: ProblemConfig) -> tuple[Problem, TiltSeries]:
    """Open the data, estimate what was not given, and check that it all fits together.

    Raises
    ------
    InputError
        For bad data, a missing thickness, a denoiser that does not fit, a step size that diverges.
    """
    series = open_tilt_series(tilts)
    geometry = _geometry(series, config)
    _check_pixels(series, config)
    loaded = load_denoiser(config.denoiser, precision=config.precision)
    _check_levels(config, loaded)
    norm = norm_squared(geometry)
    step_size = config.step_size or 1 / norm
    if step_size >= 2 / norm:
        raise InputError(
            "step_size", step_size, f"must be below 2/||A||^2 = {2 / norm:.4g}, or descent diverges"
        )
    intensity = _intensity(series, geometry, config)
    sigma = exponential(config.sigma_1, config.sigma_N, config.N)
    denoising = exponential(config.s_1 or config.sigma_1, config.s_N or config.sigma_N, config.N)
    schedule = make_schedule(
        N=config.N,
        K=config.K,
        sigma=sigma,
        added_noise=config.added_noise,
        denoising_step=denoising,
        rule=config.step_rule,
        step_size=step_size,
        sigma_y=intensity.relative_noise,
        trust=config.trust,
    )
    lattice = make_lattice(
        geometry.domain,
        max_width=config.window,
        overlap=config.overlap,
        stride=loaded.denoiser.stride,
        extent=widest_read(geometry, config),
    )
    problem = Problem(
        config=config,
        geometry=geometry,
        intensity=intensity,
        step_size=step_size,
        schedule=schedule,
        lattice=lattice,
        rows_per_call=min(config.rows_per_call, geometry.rows),
        data_digest=series.fingerprint(),
        denoiser_digest=loaded.digest,
    )
    return problem, series


def _geometry(series: TiltSeries, config: ProblemConfig) -> Geometry:
    thickness = config.thickness or series.meta.thickness_px
    if thickness is None:
        raise InputError(
            "thickness",
            "null",
            f"is neither given nor stored in {series.path}, and the data cannot tell it",
            "give --thickness PX, the specimen's extent along the beam in voxels",
        )
    _, rows, field = series.shape
    return Geometry(
        angles_deg=series.meta.angles_deg,
        thickness=thickness,
        rows=rows,
        field=field,
        shifts_px=series.meta.shifts_px or (),
        specimen=config.specimen,
    )


def _check_pixels(series: TiltSeries, config: ProblemConfig) -> None:
    bad = series.count_bad()
    if bad.count and not config.mask_bad:
        raise InputError(
            "tilts",
            series.path,
            f"holds {bad.describe()}",
            "mend the data, or have those pixels imputed with --mask-bad",
        )
    tilts, rows, field = series.shape
    if bad.count == tilts * rows * field:
        raise InputError("tilts", series.path, "holds no finite pixel at all")


def _check_levels(config: ProblemConfig, loaded: LoadedDenoiser) -> None:
    low, high = loaded.sigma_range
    for name in ("sigma_1", "sigma_N"):
        value = getattr(config, name)
        if not low <= value <= high:
            raise InputError(
                name,
                value,
                f"lies outside the noise levels {low:g} to {high:g} that denoiser "
                f"{config.denoiser!r} was trained for",
                "choose a level inside, or train a denoiser over a wider range",
            )


def _intensity(series: TiltSeries, geometry: Geometry, config: ProblemConfig) -> Intensity:
    """The estimated map over groups of rows, with what is given explicitly put in its place."""
    if config.mean is not None and config.std is not None and config.sigma_y is not None:
        return Intensity(config.mean, config.std, config.sigma_y)
    samples = []
    for rows in _sample_rows(geometry.rows):
        raw = series.read(rows)
        finite = np.isfinite(raw)
        samples.append(torch.from_numpy(raw if finite.all() else repair(raw, finite)))
    if config.mean is not None and config.std is not None:
        # Data whose scale cannot be estimated must be no obstacle when it is given.
        noise = [estimate_noise(values) for values in samples]
        return Intensity(config.mean, config.std, _rms(noise))
    found = [estimate_intensity(values, geometry, sigma_y=config.sigma_y) for values in samples]
    return Intensity(
        mean=float(np.median([f.mean for f in found])) if config.mean is None else config.mean,
        std=_rms([f.std for f in found]) if config.std is None else config.std,
        sigma_y=_rms([f.sigma_y for f in found]),
    )


def _rms(values: list[float]) -> float:
    return math.sqrt(float(np.mean(np.square(values))))


def _sample_rows(rows: int) -> list[slice]:
    if rows <= SAMPLE_GROUPS * SAMPLE_ROWS:
        return [slice(0, rows)]
    starts = np.linspace(0, rows - SAMPLE_ROWS, SAMPLE_GROUPS).astype(int)
    return [slice(int(s), int(s) + SAMPLE_ROWS) for s in starts]
