"""Noise of line integrals that is due to the finite number of quanta (electrons or photons)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddgm_dist.errors import InputError

__all__ = ["Gain", "estimate_gain", "poisson_sigma"]

Floats = NDArray[np.float64]

# Edge of the squares in which noise and mean are compared, pixels, and the least number of them.
_SQUARE, _LEAST_SQUARES = 16, 8
# How far the means must reach (as a ratio) to see how the noise depends on them, and exponents of
# the variance that are near enough to 1.
_REACH, _EXPONENTS = 1.5, (0.6, 1.4)


@dataclass(frozen=True)
class Gain:
    """Counts of one quantum.

    Attributes
    ----------
    value
        Variance of the noise over the mean.
    exponent
        Power of the mean that the variance grows with; 1 for quanta. None where the means are too
        alike to tell.
    """

    value: float
    exponent: float | None


def estimate_gain(images: Iterable[ArrayLike], dark: float = 0.0) -> Gain | None:
    """Estimate the gain from the variance against the mean; None if the noise is not that of quanta.

    The variance in a small square is that of the mixed fourth difference of neighbours, which removes
    what is smooth (Immerkaer 1996, Comput. Vis. Image Underst. 64, 300). What a specimen has of detail
    as fine as a pixel is left, and makes the gain too large. Pixels that were interpolated or filtered
    share their noise and make it too small: give views as they were recorded.

    Parameters
    ----------
    images
        Views or parts of views, counts, shape (rows, columns) each; NaN is unmeasured.
    dark
        Counts without a beam.
    """
    parts = [_squares(np.asarray(image, dtype=np.float64) - dark) for image in images]
    if not parts:
        return None
    means, variances = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    known = (means > 0) & (variances > 0)
    means, variances = means[known], variances[known]
    if len(means) < _LEAST_SQUARES:
        return None
    value = float(np.median(variances / means))
    low, high = np.quantile(means, [0.1, 0.9])
    if high < _REACH * low:
        return Gain(value, None)
    edges = np.quantile(means, np.linspace(0, 1, 9))
    group = np.clip(np.searchsorted(edges, means, side="right") - 1, 0, 7)
    x, y = list[float](), list[float]()
    for i in range(8):
        if (group == i).any():
            x.append(math.log(float(np.median(means[group == i]))))
            y.append(math.log(float(np.median(variances[group == i]))))
    exponent = float(np.polyfit(x, y, 1)[0])
    return Gain(value, exponent) if _EXPONENTS[0] <= exponent <= _EXPONENTS[1] else None


def _squares(image: Floats) -> tuple[Floats, Floats]:
    """Mean and variance of the noise in each whole square of an image."""
    rows, columns = (size // _SQUARE for size in image.shape)
    cut = image[: rows * _SQUARE, : columns * _SQUARE]
    squares = cut.reshape(rows, _SQUARE, columns, _SQUARE).swapaxes(1, 2)
    d = squares[..., :-2] - 2 * squares[..., 1:-1] + squares[..., 2:]
    d = d[..., :-2, :] - 2 * d[..., 1:-1, :] + d[..., 2:, :]
    measured = np.isfinite(squares).all(axis=(2, 3))
    return squares[measured].mean(axis=(1, 2)), np.square(d[measured]).mean(axis=(1, 2)) / 36


def poisson_sigma(means: Sequence[float], gain: float = 1.0) -> tuple[float, ...]:
    """Standard deviation of each view's line integrals that its quanta cause.

    A count c of ``c / gain`` quanta has the variance ``gain c``, and its logarithm ``gain / c``.

    Parameters
    ----------
    means
        Mean of each view above the dark counts. The harmonic mean is exact and the arithmetic mean a
        little too good. NaN or at most 0 where there is no beam.
    gain
        Counts of one quantum.

    Returns
    -------
    One for each view, infinite where there is no beam.

    Raises
    ------
    InputError
        The gain is not a positive number.
    """
    if not (math.isfinite(gain) and gain > 0):
        raise InputError("gain", gain, "must be a number above 0")
    return tuple(math.sqrt(gain / mean) if mean > 0 else math.inf for mean in means)
