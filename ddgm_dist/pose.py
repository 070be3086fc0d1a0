"""Posing the problem: from a store and a configuration to everything that fixes the answer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity, estimate_intensity, estimate_noise
from ddgm_dist.core.noise import ROW_LATTICE_STREAM
from ddgm_dist.core.schedule import Schedule, denoising_steps, make_schedule, noise_levels
from ddgm_dist.core.window import make_lattice
from ddgm_dist.engine.measurements import repair
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab_basis import norm_squared
from ddgm_dist.operators.stretch import DetectorPart
from ddgm_dist.plan.config import ProblemConfig
from ddgm_dist.plan.plan import widest_read
from ddgm_dist.plan.problem import Problem
from ddgm_dist.prior.denoisers import LoadedDenoiser, load_denoiser
from ddgm_dist.storage.tilt_series import BadPixels, TiltSeries, open_tilt_series

__all__ = ["check_levels", "pose_problem", "pose_schedule"]

# Rows that the intensity is estimated from: groups of neighbours, spread over the field.
SAMPLE_GROUPS, SAMPLE_ROWS = 8, 8
# Fields up to this width are sampled over all their columns, wider ones in a few places.
WHOLE_SAMPLE = 16384
SAMPLE_PLACES, SAMPLE_COLUMNS = 8, 4096
_SAMPLE_BYTES = 256 * 2**20


def pose_problem(tilts: str | Path, config: ProblemConfig) -> tuple[Problem, TiltSeries]:
    """Open the data, estimate what was not given, and check that it all fits together.

    Raises
    ------
    InputError
        For bad data, a missing thickness, a denoiser that does not fit, a step size that diverges.
    """
    series = open_tilt_series(tilts)
    geometry = _geometry(series, config)
    fingerprint, bad = series.survey()
    _check_pixels(series, bad, config)
    loaded = load_denoiser(config.denoiser, precision=config.precision)
    check_levels(config, loaded)
    norm = norm_squared(geometry)
    step_size = config.step_size or 1 / norm
    if step_size >= 2 / norm:
        raise InputError(
            "step_size", step_size, f"must be below 2/||A||^2 = {2 / norm:.4g}, or descent diverges"
        )
    intensity = _intensity(series, geometry, config)
    schedule = pose_schedule(config, step_size, intensity)
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
    )
    return problem, series


def pose_schedule(config: ProblemConfig, step_size: float, intensity: Intensity) -> Schedule:
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
        trust=config.trust,
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
        specimen=config.specimen,
    )


def _check_pixels(series: TiltSeries, bad: BadPixels, config: ProblemConfig) -> None:
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


def _intensity(series: TiltSeries, geometry: Geometry, config: ProblemConfig) -> Intensity:
    """The estimated map over samples, with what is given explicitly put in its place."""
    if config.mean is not None and config.std is not None and config.sigma_y is not None:
        return Intensity(config.mean, config.std, config.sigma_y)
    if config.mean is not None and config.std is not None:
        # Data whose scale cannot be estimated must be no obstacle when it is given.
        noise = [estimate_noise(values) for values, _ in _samples(series, geometry)]
        return Intensity(config.mean, config.std, _rms(noise))
    found, empty = [], None
    for values, seen in _samples(series, geometry):
        try:
            found.append(estimate_intensity(values, seen, sigma_y=config.sigma_y))
        except InputError as error:  # a hole in the specimen tells nothing about it
            empty = error
    if empty is not None and not found:
        raise empty
    return Intensity(
        mean=float(np.median([f.mean for f in found])) if config.mean is None else config.mean,
        std=_rms([f.std for f in found]) if config.std is None else config.std,
        sigma_y=_rms([f.sigma_y for f in found]),
    )


def _rms(values: list[float]) -> float:
    return math.sqrt(float(np.mean(np.square(values))))


def _samples(series: TiltSeries, geometry: Geometry) -> Iterator[tuple[Tensor, Geometry]]:
    """Parts of the tilt series, without bad pixels, and the geometry that each would be alone."""
    found = False
    for rows in _sample_rows(geometry):
        for part, seen in _sample_columns(geometry):
            raw = series.read_lines(rows, part.first, part.width)
            finite = np.isfinite(raw)
            if not finite.any():
                continue  # there are finite pixels elsewhere
            if not finite.all():
                raw = repair(raw, finite, _typical(raw, finite))
            found = True
            yield torch.from_numpy(raw), seen
    if not found:
        raise InputError(
            "tilts",
            series.path,
            "holds no finite pixel where its intensity was to be estimated",
            "give mean, std and sigma_y",
        )


def _typical(raw: NDArray[np.float32], finite: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Median of each tilt's good pixels; of all good ones where a tilt has none."""
    values = [lines[good] for lines, good in zip(raw, finite, strict=True)]
    rest = float(np.median(raw[finite]))
    return np.array([np.median(v) if len(v) else rest for v in values], dtype=np.float32)


def _sample_rows(geometry: Geometry) -> list[slice]:
    """Groups of rows; shorter ones where whole rows of a wide isolated specimen are needed."""
    rows = geometry.rows
    together = rows if rows <= SAMPLE_GROUPS * SAMPLE_ROWS else SAMPLE_ROWS
    if geometry.field > WHOLE_SAMPLE:
        columns = geometry.field if geometry.specimen == "isolated" else SAMPLE_COLUMNS
        together = min(together, max(1, _SAMPLE_BYTES // (4 * geometry.tilts * columns)))
    if together == rows:
        return [slice(0, rows)]
    groups = min(SAMPLE_GROUPS, rows // together)
    starts = np.linspace(0, rows - together, groups).astype(int)
    return [slice(int(s), int(s) + together) for s in starts]


def _sample_columns(geometry: Geometry) -> Iterator[tuple[DetectorPart, Geometry]]:
    """Columns that are sampled of each tilt.

    A wide slab is sampled in places of the specimen, spread over the field: of each tilt the
    columns around where it shows the place's middle, ``(x0 - c) cos(theta) + c + dx``. That is what
    a detector of so many columns would record with the place at its centre, so the rules for a
    narrow field hold: rays that leave the place are not used. (All of them are inside the wide
    field.) An isolated specimen is taken whole: its mass says what its mean is.
    """
    field = geometry.field
    if field <= WHOLE_SAMPLE or geometry.specimen == "isolated":
        yield DetectorPart((0,) * geometry.tilts, field), geometry
        return
    # Wide enough that most rays stay within the place.
    width = min(WHOLE_SAMPLE, max(SAMPLE_COLUMNS, 4 * geometry.reach))
    seen = replace(geometry, field=width, shifts_px=())
    centre = field / 2
    for place in np.linspace(width / 2, field - width / 2, SAMPLE_PLACES):
        middle = [
            (place - centre) * math.cos(angle) + centre + geometry.shift(tilt)[1]
            for tilt, angle in enumerate(geometry.angles)
        ]
        first = (min(max(round(m - width / 2), 0), field - width) for m in middle)
        yield DetectorPart(tuple(first), width), seen
