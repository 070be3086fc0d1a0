"""Mean, standard deviation and noise of a series, from sampled rows."""

from __future__ import annotations

import math

import numpy as np

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.errors import InputError
from ddgm_dist.pixels.intensity_estimate import estimate_intensity, estimate_noise
from ddgm_dist.pixels.level import LevelCheck
from ddgm_dist.pixels.omitted_lines import omitted_lines
from ddgm_dist.pixels.screen import Screen
from ddgm_dist.tilts.reader import TiltSeries
from ddgm_dist.tilts.record import Estimate
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
    for sample in samples(series, geometry, screen):
        level.add(sample.values, sample.geometry, sample.good)
        if known is not None:
            noise.append(estimate_noise(sample.values))
            continue
        lines = omitted_lines(sample.values, sample.geometry, sample.good)
        omitted.update((t, y + sample.row) for t, y in lines)
        try:
            found.append(
                estimate_intensity(
                    sample.values, sample.geometry, sigma_y=sigma_y, good=sample.good
                )
            )
        except InputError as error:  # a hole in the specimen says nothing about it
            empty = error
    if known is not None:
        intensity = Intensity(*known, _rms(noise))
    elif empty is not None and not found:
        raise empty
    else:
        intensity = Intensity(
            mean=float(np.median([f.mean for f in found])) if mean is None else mean,
            std=_rms([f.std for f in found]) if std is None else std,
            sigma_y=_rms([f.sigma_y for f in found]),
        )
    return Estimate(intensity, tuple(sorted(omitted)), level.constant())


def _rms(values: list[float]) -> float:
    return math.sqrt(float(np.mean(np.square(values))))
