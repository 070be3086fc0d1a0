"""Posing the problem: from a store and a configuration to everything that fixes the answer."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddgm_dist.algorithm.schedule import Schedule, denoising_steps, make_schedule, noise_levels
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.core.noise import ROW_LATTICE_STREAM
from ddgm_dist.core.window import make_lattice
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.basis import norm_squared
from ddgm_dist.pixels.findings import Finding, left_out
from ddgm_dist.pixels.level import LevelCheck
from ddgm_dist.pixels.observed import Seen
from ddgm_dist.pixels.omitted_lines import omitted_lines
from ddgm_dist.pixels.scan import Scan
from ddgm_dist.pixels.screen import Screen
from ddgm_dist.planning.config import ProblemConfig
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.tiling import widest_read
from ddgm_dist.prior.denoisers import LoadedDenoiser, load_denoiser
from ddgm_dist.runs.intensity_estimate import estimate_intensity, estimate_noise
from ddgm_dist.runs.sampled_rows import probe, samples
from ddgm_dist.tilts.series import BadPixels, TiltSeries, open_tilt_series

__all__ = ["BuiltProblem", "build_problem", "build_schedule", "check_levels", "pose_problem"]

log = logging.getLogger("ddgm_dist")


@dataclass(frozen=True)
class BuiltProblem:
    """A problem, where its data are, and what was noticed in them.

    Attributes
    ----------
    problem
        Everything that fixes the answer.
    series
        The open store.
    findings
        What a user should know about the pixels.
    """

    problem: Problem
    series: TiltSeries
    findings: tuple[Finding, ...]


def pose_problem(tilts: str | Path, config: ProblemConfig) -> tuple[Problem, TiltSeries]:
    """The problem and the open store; see :func:`build_problem`."""
    built = build_problem(tilts, config)
    return built.problem, built.series


def build_problem(
    tilts: str | Path, config: ProblemConfig, *, verify_input: bool = False
) -> BuiltProblem:
    """Open the data, look at them, estimate what was not given, and check that it all fits together.

    What is noticed in the pixels is warned of in the log as well.

    Raises
    ------
    InputError
        For bad data, a missing thickness, a denoiser that does not fit, a step size that diverges.
    """
    series = open_tilt_series(tilts)
    geometry = _geometry(series, config)
    probes = probe(series, geometry)
    scan = Scan(series.shape, probes.value(), series.read)
    fingerprint, bad = series.survey(watch=scan.add)
    if bad.count and series.meta.bad_pixels == "unmeasured":
        config = config.model_copy(update={"impute_nonfinite": True})
    _check_pixels(series, bad, config)
    seen = scan.result(probes.probes, geometry)
    screen = seen.screen() if config.despike else None
    findings = _told(series, _pixels(series, config, seen))
    loaded = load_denoiser(config.denoiser, precision=config.precision)
    check_levels(config, loaded)
    norm = norm_squared(geometry)
    step_size = config.step_size or 1 / norm
    if step_size >= 2 / norm:
        raise InputError(
            "step_size", step_size, f"must be below 2/||A||^2 = {2 / norm:.4g}, or descent diverges"
        )
    level = LevelCheck(config.boundary)
    omitted = set[tuple[int, int]]()
    intensity = _intensity(series, geometry, config, screen, level, omitted)
    if omitted:
        findings += _told(series, (left_out(sorted(omitted)),))
    schedule = build_schedule(config, step_size, intensity)
    lattice = make_lattice(
        geometry.domain,
        max_width=config.window,
        overlap=config.overlap,
        stride=loaded.denoiser.stride,
        extent=widest_read(geometry, config),
    )
    lattice_rows = None
    if config.rotates:
        lattice_rows = make_lattice(
            (0, geometry.rows),
            max_width=config.window_rows,
            overlap=config.overlap_rows,
            stride=loaded.denoiser.stride,
            stream=ROW_LATTICE_STREAM,
            argument="window_rows",
        )
    problem = Problem(
        config=config,
        geometry=geometry,
        intensity=intensity,
        step_size=step_size,
        schedule=schedule,
        lattice=lattice,
        rows_per_call=min(config.rows_per_call, geometry.rows),
        data_digest=fingerprint,
        denoiser_digest=loaded.digest,
        lattice_rows=lattice_rows,
        screen=screen,
    )
    constant = level.finding(
        "give ingest --dark {level} (more than it was given) if it is no signal"
    )
    if constant is not None:
        findings += _told(series, (constant,))
    return BuiltProblem(problem, series, findings)


def _pixels(series: TiltSeries, config: ProblemConfig, seen: Seen) -> tuple[Finding, ...]:
    """What the scan has noticed, and what is done about it."""
    kept = "left as they are"
    masked = "masked (--no-despike keeps them)" if config.despike else kept
    return seen.findings(series.meta.angles_deg, masked=masked, kept=kept)


def _told(series: TiltSeries, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The findings, which are warned of as soon as they are known."""
    for finding in findings:
        log.warning("%s: %s", series.path, finding.text)
    return findings


def build_schedule(config: ProblemConfig, step_size: float, intensity: Intensity) -> Schedule:
    """The schedule that a configuration asks for, with a resolved step size and intensity."""
    return make_schedule(
        N=config.N,
        K=config.K,
        sigma=noise_levels(config.schedule, config.sigma_1, config.sigma_N, config.N),
        added_noise=config.added_noise,
        denoising_step=_denoising_steps(config),
        rule=config.step_rule,
        step_size=step_size,
        sigma_y=intensity.relative_noise,
        data_weight_cap=config.data_weight_cap,
    )


def _denoising_steps(config: ProblemConfig) -> tuple[float, ...]:
    first, last = config.s_1 or config.sigma_1, config.s_N or config.sigma_N
    return denoising_steps(config.schedule, first, last, config.N)


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
        boundary=config.boundary,
    )


def _check_pixels(series: TiltSeries, bad: BadPixels, config: ProblemConfig) -> None:
    if bad.count and not config.impute_nonfinite:
        raise InputError(
            "tilts",
            series.path,
            f"holds {bad.describe()}",
            "mend the data, or have those pixels imputed with --impute-nonfinite",
        )
    tilts, rows, field = series.shape
    if bad.count == tilts * rows * field:
        raise InputError("tilts", series.path, "holds no finite pixel at all")


def check_levels(config: ProblemConfig, loaded: LoadedDenoiser) -> None:
    """Refuse noise levels that do not decrease, or that the denoiser was not trained for."""
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
    noise_levels(config.schedule, config.sigma_1, config.sigma_N, config.N)
    _denoising_steps(config)


def _intensity(
    series: TiltSeries,
    geometry: Geometry,
    config: ProblemConfig,
    screen: Screen | None,
    level: LevelCheck,
    omitted: set[tuple[int, int]],
) -> Intensity:
    """The estimated map over samples, with what is given explicitly put in its place.

    Whatever is read is shown to ``level``; lines that are left out are put into ``omitted``.
    """
    if config.mean is not None and config.std is not None and config.sigma_y is not None:
        return Intensity(config.mean, config.std, config.sigma_y)
    noise, found, empty = [], [], None
    for sample in samples(series, geometry, screen):
        level.add(sample.values, sample.geometry, sample.good)
        if config.mean is not None and config.std is not None:
            # Data whose scale cannot be estimated must be no obstacle when it is given.
            noise.append(estimate_noise(sample.values))
            continue
        lines = omitted_lines(sample.values, sample.geometry, sample.good)
        omitted.update((t, y + sample.row) for t, y in lines)
        try:
            found.append(
                estimate_intensity(
                    sample.values, sample.geometry, sigma_y=config.sigma_y, good=sample.good
                )
            )
        except InputError as error:  # a hole in the specimen tells nothing about it
            empty = error
    if config.mean is not None and config.std is not None:
        return Intensity(config.mean, config.std, _rms(noise))
    if empty is not None and not found:
        raise empty
    return Intensity(
        mean=float(np.median([f.mean for f in found])) if config.mean is None else config.mean,
        std=_rms([f.std for f in found]) if config.std is None else config.std,
        sigma_y=_rms([f.sigma_y for f in found]),
    )


def _rms(values: list[float]) -> float:
    return math.sqrt(float(np.mean(np.square(values))))
