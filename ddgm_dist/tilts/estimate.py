"""Mean, standard deviation, noise and misfit of a series, from sampled rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.errors import InputError
from ddgm_dist.pixels.intensity_estimate import estimate_intensity
from ddgm_dist.pixels.level import LevelCheck
from ddgm_dist.pixels.noise_estimate import STRIDES, correlated_noise, noise_of_views, rms
from ddgm_dist.pixels.omitted_lines import omitted_lines
from ddgm_dist.pixels.screen import Screen
from ddgm_dist.tilts.misfit import Unexplained
from ddgm_dist.tilts.reader import TiltSeries
from ddgm_dist.tilts.recorded_estimate import Estimate
from ddgm_dist.tilts.sampled_fit import fit_sampled_rows
from ddgm_dist.tilts.sampled_rows import samples

__all__ = ["estimate"]


def estimate(
    series: TiltSeries,
    geometry: Geometry,
    screen: Screen | None = None,
    *,
    mean: float | None = None,
    std: float | None = None,
    sigma_y: float | None = None,
) -> Estimate:
    """Estimate what is not given; nothing is read where all is.

    Where the noise is given, neither it nor the misfit is estimated.

    Parameters
    ----------
    series, geometry
        Open store; of the problem.
    screen
        Rule that says which pixels are masked.
    mean, std, sigma_y
        The volume's mean and deviation per voxel; noise per pixel. None where unknown.

    Raises
    ------
    InputError
        The samples have no measured pixel, or no contrast above their noise.
    """
    if mean is not None and std is not None and sigma_y is not None:
        return Estimate(Intensity(mean, std, sigma_y))
    # Data whose scale cannot be estimated must be no obstacle when it is given.
    known = None if mean is None or std is None else (mean, std)
    level, omitted = LevelCheck(geometry.boundary), set[tuple[int, int]]()
    noise, found, empty = list[float](), list[Intensity](), None
    views = [list[tuple[float, ...]]() for _ in geometry.angles_deg]
    for sample in samples(series, geometry, screen):
        level.add(sample.values, sample.geometry, sample.good)
        given = sigma_y
        if sigma_y is None:
            scales = noise_of_views(
                sample.values, sample.geometry, sample.good, every=known is not None
            )
            given = rms([scale[0] for scale in scales.values()])
            for tilt, scale in scales.items():
                views[tilt].append(tuple(map(float, scale)))
        if known is not None:
            assert given is not None, "one of the three is estimated"
            noise.append(given)
            del sample  # it is large, and the next one is read while this name lives
            continue
        lines = omitted_lines(sample.values, sample.geometry, sample.good)
        omitted.update((t, y + sample.row) for t, y in lines)
        try:
            found.append(
                estimate_intensity(sample.values, sample.geometry, sigma_y=given, good=sample.good)
            )
        except InputError as error:  # a hole in the specimen says nothing about it
            empty = error
        del sample
    if known is not None:
        own = Intensity(*known, _rms(noise))
    elif empty is not None and not found:
        raise empty
    else:
        own = Intensity(
            mean=float(np.median([f.mean for f in found])),
            std=_rms([f.std for f in found]),
            sigma_y=_rms([f.sigma_y for f in found]),
        )
    result = Estimate(own, tuple(sorted(omitted)), level.constant())
    if sigma_y is None:
        fit = fit_sampled_rows(series, geometry, own, screen)
        result = _with_misfit(
            replace(result, fit=fit.rows),
            views=views,
            known=series.meta.sigma_y,
            unexplained=fit.unexplained,
        )
    return result.with_given(mean, std)


def _with_misfit(
    found: Estimate,
    *,
    views: Sequence[Sequence[tuple[float, ...]]],
    known: tuple[float, ...] | None,
    unexplained: Unexplained | None,
) -> Estimate:
    """The estimate with noise by view, and with the misfit.

    Parameters
    ----------
    found
        Estimate from neighbouring pixels, as if the noise were white.
    views
        Noise of each view in each sample, by stride.
    known
        Noise of each view that the series states. The larger of the two counts.
    unexplained
        Noise and misfit together.
    """
    strides = [
        tuple(_rms([own[k] for own in view]) if view else 0.0 for k in range(len(STRIDES)))
        for view in views
    ]
    noise, sigma_y = tuple(view[0] for view in strides), found.intensity.sigma_y
    better = noise
    if unexplained is not None:
        better = correlated_noise(strides, unexplained.typical) or noise
    if known is not None:
        better = tuple(map(max, better, known))
    if better != noise:  # and else to the bit what neighbours say
        noise = better
        sigma_y = max(sigma_y, _rounded(_rms([n for n in noise if n > 0]), 3))
    misfit = 0.0
    if unexplained is not None:
        # Rounded, as it is a part of the problem: all processors are to find the same.
        misfit = _rounded(math.sqrt(max(0.0, unexplained.total**2 - sigma_y**2)), 3)
    return replace(
        found,
        intensity=replace(found.intensity, sigma_y=sigma_y, misfit=misfit),
        noise=tuple(_rounded(n, 4) for n in noise),
        unexplained=tuple(_rounded(u, 4) for u in unexplained.views) if unexplained else (),
    )


def _rounded(value: float, digits: int) -> float:
    """Value to so many significant digits."""
    return float(f"{value:.{digits}g}")


def _rms(values: list[float]) -> float:
    return math.sqrt(float(np.mean(np.square(values))))
