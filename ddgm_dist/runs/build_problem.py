"""From a store and a configuration to everything that fixes the answer."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ddgm_dist.algorithm.schedule import denoising_steps, noise_levels
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.errors import InputError
from ddgm_dist.paths.place import Place
from ddgm_dist.pixels.findings import Finding, constant, left_out
from ddgm_dist.planning.config import ProblemConfig
from ddgm_dist.planning.problem import Problem
from ddgm_dist.prior.denoisers import LoadedDenoiser, shared_denoiser
from ddgm_dist.tilts.estimate import estimate
from ddgm_dist.tilts.record import Estimate
from ddgm_dist.tilts.series import BadPixels, TiltSeries, open_series_at
from ddgm_dist.tilts.survey import Survey, survey, verify

__all__ = ["BuiltProblem", "build_problem", "check_levels"]

log = logging.getLogger("ddgm_dist")

_CONSTANT = "give ingest --dark {:.4g} (more than it was given) if it is no signal"


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
        Findings about the pixels, for the user.
    """

    problem: Problem
    series: TiltSeries
    findings: tuple[Finding, ...]


def build_problem(
    tilts: Place, config: ProblemConfig, *, verify_input: bool = False
) -> BuiltProblem:
    """Open the data, estimate what was not given, and check that it all fits together.

    All pixels are read only where the series' writer left no record of them. What the record or the
    pixels show is logged as a warning, too.

    Parameters
    ----------
    tilts
        Place of the tilt-series store.
    config
        The problem keys.
    verify_input
        Read all pixels and compare them with the record. Otherwise each tile compares what it reads.

    Raises
    ------
    InputError
        For bad data, a missing thickness, a denoiser that does not fit, a step size that diverges.
    StorageError
        Pixels that are read are damaged, missing, or not those that were written.
    """
    series = open_series_at(tilts)
    geometry = _geometry(series, config)
    if verify_input:
        verify(series)
    seen = _seen(series)
    if seen.bad.count and series.meta.bad_pixels == "unmeasured":
        config = config.model_copy(update={"impute_nonfinite": True})
    _check_pixels(series, seen.bad, config)
    artifacts = seen.observations.judge(geometry)
    kept = "left as they are"
    masked = "masked (--no-despike keeps them)" if config.despike else kept
    findings = _warn(series, artifacts.findings(series.meta.angles_deg, masked=masked, kept=kept))
    screen = artifacts.screen()
    loaded = shared_denoiser(config.denoiser, precision=config.precision)
    check_levels(config, loaded)
    found: Estimate | None = None
    given = (config.mean, config.std, config.sigma_y)
    # The recorded estimate is of the masked series, with nothing given.
    if series.record and given == (None,) * 3 and (config.despike or screen is None):
        found = series.record.estimate(geometry)
    if not config.despike:
        screen = None
    if found is None:
        mean, std, sigma_y = given
        found = estimate(series, geometry, screen, mean=mean, std=std, sigma_y=sigma_y)
    if found.omitted:
        findings += _warn(series, (left_out(found.omitted),))
    problem = Problem.derive(
        geometry,
        config,
        found.intensity,
        stride=loaded.denoiser.stride,
        data_digest=seen.fingerprint,
        denoiser_digest=loaded.digest,
        screen=screen,
    )
    if found.constant is not None:
        outcome = _CONSTANT.format(found.constant[0])
        findings += _warn(series, (constant(*found.constant, outcome),))
    return BuiltProblem(problem, series, findings)


def _seen(series: TiltSeries) -> Survey:
    """Survey of all pixels: from the record, or by reading them."""
    record = series.record
    if record is not None:
        return Survey(series.fingerprint(), record.bad, record.observations)
    log.info("%s: its writer left no record of its pixels, so all are read", series.path)
    return survey(series)


def _warn(series: TiltSeries, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The findings, which are warned of as soon as they are known."""
    for finding in findings:
        log.warning("%s: %s", series.path, finding.text)
    return findings


def _geometry(series: TiltSeries, config: ProblemConfig) -> Geometry:
    thickness = config.thickness or series.meta.thickness_px
    if thickness is None:
        raise InputError(
            "thickness",
            "null",
            f"is neither given nor stored in {series.path}, and the data do not determine it",
            "give --thickness PX, the specimen's extent along the beam in voxels",
        )
    return series.geometry(thickness, boundary=config.boundary)


def _check_pixels(series: TiltSeries, bad: BadPixels, config: ProblemConfig) -> None:
    if bad.count and not config.impute_nonfinite:
        raise InputError(
            "tilts",
            series.path,
            f"holds {bad.describe()}",
            "repair the data, or have those pixels imputed with --impute-nonfinite",
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
    first, last = config.s_1 or config.sigma_1, config.s_N or config.sigma_N
    denoising_steps(config.schedule, first, last, config.N)
