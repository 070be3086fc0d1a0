"""From a store and a configuration to everything that fixes the answer."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ddgm_dist.algorithm.schedule import denoising_steps, noise_levels
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.core.parallel import Runner
from ddgm_dist.errors import InputError
from ddgm_dist.paths.place import Place
from ddgm_dist.pixels.findings import Finding, constant, left_out, with_note
from ddgm_dist.planning.config import ProblemConfig
from ddgm_dist.planning.problem import Problem
from ddgm_dist.planning.problem_changes import differences
from ddgm_dist.planning.restored_start import RestorerTraits
from ddgm_dist.prior.denoisers import LoadedDenoiser, shared_denoiser
from ddgm_dist.records.damage import log_damage
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.runs.read_series import SeriesReading, default_readers
from ddgm_dist.runs.restorer_training import about_restorer
from ddgm_dist.tile.start import start_restorer
from ddgm_dist.tilts.estimate import estimate
from ddgm_dist.tilts.findings import advice_on_constant
from ddgm_dist.tilts.record import Kept, Record, save_record
from ddgm_dist.tilts.recorded_estimate import Estimate
from ddgm_dist.tilts.series import BadPixels, TiltSeries, open_series_at
from ddgm_dist.tilts.survey import Survey

__all__ = ["BuiltProblem", "build_problem", "check_levels", "keep_record"]

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
    survey
        Survey of all pixels, if they had to be read for it.
    estimate
        Estimates, with noise and misfit by view; None where an earlier run's were taken.
    """

    problem: Problem
    series: TiltSeries
    findings: tuple[Finding, ...]
    survey: Survey | None = None
    estimate: Estimate | None = None


def build_problem(
    tilts: Place,
    config: ProblemConfig,
    *,
    verify_input: bool = False,
    earlier: Sequence[RunRecord] = (),
    readers: Callable[[], Runner | None] | None = None,
    progress: bool = False,
) -> BuiltProblem:
    """Open the data, estimate what was not given, and check that it all fits together.

    All pixels are read only where neither the series' writer nor an earlier run left a record of them.
    What the record or the pixels show is logged as a warning, too.

    Parameters
    ----------
    tilts
        Place of the tilt-series store.
    config
        The problem keys.
    verify_input
        Read all pixels and compare them with the record. Otherwise each tile compares what it reads.
    earlier
        Records of runs that this one may resume. What they say of the same series is not found out
        again.
    readers
        Asked for where all pixels are read, if they are; by default on Ray if this process is connected
        to it, and else in several threads.
    progress
        Show on standard error how far a series is read; it is logged otherwise.

    Raises
    ------
    InputError
        For bad data, a missing thickness, a denoiser that does not fit, a step size that diverges.
    StorageError
        Pixels that are read are damaged, missing, or not those that were written.
    """
    series = open_series_at(tilts)
    geometry = _geometry(series, config)
    # What is quickly checked comes first.
    loaded = shared_denoiser(config.denoiser, precision=config.precision)
    check_levels(config, loaded)
    restorer = start_restorer(config)
    _use_kept_record(series, earlier)
    read = SeriesReading(series, readers or default_readers, progress=progress)
    if verify_input:
        read.verify()
    surveyed = read.survey() if series.record is None else None
    seen = surveyed or series.record
    assert seen is not None, "it has no record or was surveyed"
    if seen.bad.count and series.meta.bad_pixels == "unmeasured":
        config = config.model_copy(update={"impute_nonfinite": True})
    _check_pixels(series, seen.bad, config)
    artifacts = seen.observations.judge(geometry)
    kept = "left as they are"
    masked = "masked (--no-despike keeps them)" if config.despike else kept
    findings = _warn(series, artifacts.findings(series.meta.views, masked=masked, kept=kept))
    screen = artifacts.screen()
    recorded: Estimate | None = None
    given = (config.mean, config.std, config.sigma_y)
    # The recorded estimate is of the masked series, with nothing given. A mean or a deviation that is
    # given leaves the rest as it is.
    if (
        series.record
        and None in given[:2]
        and given[2] is None
        and (config.despike or screen is None)
    ):
        recorded = series.record.estimate(geometry)
        if recorded is not None and not recorded.noise:
            recorded = None  # a former version's, which knew of no misfit
    if recorded is not None:
        recorded = recorded.with_given(*given[:2])
    if not config.despike:
        screen = None
    digest = series.fingerprint() if surveyed is None else surveyed.fingerprint

    def derive(intensity: Intensity) -> Problem:
        return Problem.derive(
            geometry,
            config,
            intensity,
            stride=loaded.denoiser.stride,
            data_digest=digest,
            denoiser_digest=loaded.digest,
            screen=screen,
            restorer=RestorerTraits.of(restorer),
        )

    if recorded is None and (resumed := _resumed(earlier, derive)) is not None:
        findings += _warn(series, about_restorer(resumed, series, restorer))
        return BuiltProblem(resumed, series, findings, surveyed)
    mean, std, sigma_y = given
    found = recorded or estimate(series, geometry, screen, mean=mean, std=std, sigma_y=sigma_y)
    if found.omitted:
        names = series.meta.views
        line = (left_out(found.omitted, names),)
        findings += _warn(series, line if findings else with_note(line, names))
    problem = derive(_with_discrepancy(found.intensity, config))
    findings += _warn(series, about_restorer(problem, series, restorer))
    if found.constant is not None:
        outcome = advice_on_constant(
            series.meta, *found.constant, _CONSTANT.format(found.constant[0])
        )
        findings += _warn(series, (constant(*found.constant, outcome),))
    return BuiltProblem(problem, series, findings, surveyed, found)


def keep_record(built: BuiltProblem, content: Place) -> None:
    """Keep a record of a series whose writer left none, for tiles to compare and runs to resume.

    Parameters
    ----------
    built
        The problem, its series, and what all its pixels say.
    content
        Place of the output, whose folder takes it.
    """
    series, seen = built.series, built.survey or built.series.record
    assert seen is not None, "it has a record or was surveyed"
    if series.kept is None and built.survey is None:
        return  # its own
    kept = Kept(content, series.identify())
    if series.kept == kept:
        return
    if built.survey is not None:
        pieces = built.survey.pieces
    else:
        assert series.checked is not None, "it has a record"
        pieces = series.checked.tables.pieces()
    record = Record(
        identity=kept.identity,
        shape=series.shape,
        dtype=str(series.dtype),
        meta=series.meta,
        fingerprint=built.problem.data_digest,
        bad=seen.bad,
        observations=seen.observations,
    )
    save_record(content, record, pieces, None)
    series.keep(kept)


def _with_discrepancy(intensity: Intensity, config: ProblemConfig) -> Intensity:
    """The intensity with the misfit that the configuration says; none where no rule takes it."""
    if config.step_rule == "paper" or config.discrepancy == "off":
        return replace(intensity, misfit=0.0)
    if config.discrepancy == "auto":
        return intensity
    return replace(intensity, misfit=config.discrepancy)


def _use_kept_record(series: TiltSeries, earlier: Sequence[RunRecord]) -> None:
    """Take the record that an earlier run kept of the same series, if its writer left none."""
    for run in earlier:
        if series.record is not None:
            return
        series.keep(Kept(run.folder.parent, series.identify()))
    if series.record is None:
        series.kept = None


def _resumed(
    earlier: Sequence[RunRecord], derive: Callable[[Intensity], Problem]
) -> Problem | None:
    """The problem of an earlier run, if this one is the same but for the intensity.

    That follows from all the rest, so nothing need be read to estimate it again.
    """
    for run in earlier:
        saved = None
        with log_damage():
            saved = run.read_problem()
        with contextlib.suppress(KeyError, TypeError, ValueError, InputError):
            problem = derive(Intensity(**(saved or {})["intensity"]))
            if saved is not None and not differences(saved, problem.to_dict()):
                return problem
    return None


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
            f"holds {bad.describe(series.meta.views)}",
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
