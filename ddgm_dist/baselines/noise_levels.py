"""Types and functions that the samplers share: denoiser, noise, and the walk down noise levels.

States are written with variance exploding, ``x_t = x_0 + sigma_t * noise``, as everywhere in this
package. A paper's variance-preserving state is ``sqrt(alpha_bar_t)`` times that, with
``sigma_t^2 = (1 - alpha_bar_t) / alpha_bar_t``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from ddgm_dist.errors import InputError

__all__ = ["Denoise", "Noise", "check_fraction", "check_sigma_y", "walk"]

Denoise = Callable[[Tensor, float, int], Tensor]
"""A denoiser ``(x, sigma, n) -> E[clean | x]``, float32 ``(z, rows, columns)``; n counts from 0."""

Noise = Callable[[int], Tensor]
"""Standard normal noise, a function of its number and of global voxels; shape of the volume.

The samplers start from number 0 and add number n + 1 in iteration n."""


def walk(sigma: Sequence[float]) -> Iterator[tuple[int, float, float]]:
    """Yield ``(n, sigma_n, sigma_{n+1})`` for n from 0; the level after the last is 0.

    Raises
    ------
    InputError
        If there is no level, or they are not positive and decreasing.
    """
    if not sigma:
        raise InputError("sigma", "()", "there must be at least one noise level")
    if not all(s > 0 and math.isfinite(s) for s in sigma):
        raise InputError("sigma", tuple(sigma), "a noise level must be a positive number")
    after = (*sigma[1:], 0.0)
    if any(b >= a for a, b in zip(sigma, after, strict=True)):
        raise InputError(
            "sigma", tuple(sigma), "noise levels must decrease", "begin with the largest"
        )
    return iter([(n, a, b) for n, (a, b) in enumerate(zip(sigma, after, strict=True))])


def check_fraction(name: str, value: float) -> None:
    """Refuse a value outside [0, 1]."""
    if not 0 <= value <= 1:
        raise InputError(name, value, "is a fraction, from 0 to 1")


def check_sigma_y(sigma_y: float, *, zero: bool) -> None:
    """Refuse noise of the data that is negative, or zero where the method divides by it."""
    if not (sigma_y >= 0 and math.isfinite(sigma_y)) or (sigma_y == 0 and not zero):
        raise InputError(
            "sigma_y",
            sigma_y,
            f"the noise of the data must be {'0 or more' if zero else 'positive'}",
            "" if zero else "for data without noise give a little, 1e-3 of the signal",
        )
