"""Schedules: how much noise, how bold a denoising step, how many gradient steps, at each n."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from ddgm_dist.errors import InputError

__all__ = [
    "IMPUTED_EVERY",
    "Schedule",
    "ScheduleShape",
    "StepRule",
    "denoising_steps",
    "exponential",
    "make_schedule",
    "noise_levels",
]

StepRule = Literal["paper", "noise-aware"]
ScheduleShape = Literal["exponential", "linear", "cosine", "karras"]

# Gradient steps between two imputations of the rays that were not measured (operators/slab.py). Fewer
# cost time in proportion. docs/quality.md has what they gain.
IMPUTED_EVERY = 25

# Of Karras et al. 2022.
_RHO = 7.0


@dataclass(frozen=True)
class Schedule:
    """One entry per iteration n = 1..N.

    Attributes
    ----------
    sigma
        The noise level that the denoiser is told.
    added
        Standard deviation of the noise that is added. The paper adds sigma. Less leaves room for the
        estimate's own error, which the denoiser has to remove as well.
    denoising_step
        s_n: how much of the predicted noise is removed, ``x - s_n * eps_hat``.
    steps
        Gradient steps K_n; a fraction is a last step of that fraction of the step size.

    Raises
    ------
    InputError
        If the noise levels do not decrease.
    """

    sigma: tuple[float, ...]
    added: tuple[float, ...]
    denoising_step: tuple[float, ...]
    steps: tuple[float, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.sigma), len(self.added), len(self.denoising_step), len(self.steps)}
        if len(lengths) > 1:
            raise ValueError(
                f"schedules of unequal length: {len(self.sigma)} noise levels, "
                f"{len(self.added)} of added noise, {len(self.denoising_step)} denoising steps, "
                f"{len(self.steps)} gradient phases"
            )
        for n, (level, after) in enumerate(pairwise(self.sigma), start=1):
            if not after < level:
                raise InputError(
                    "sigma",
                    f"{level:g} at n = {n}, then {after:g}",
                    "noise levels must decrease from one iteration to the next",
                    "sort them, the largest first",
                )

    def __len__(self) -> int:
        return len(self.sigma)


def _exponential(first: float, last: float, t: float) -> float:
    return float(first * (last / first) ** t)


def _linear(first: float, last: float, t: float) -> float:
    return first + t * (last - first)


def _cosine(first: float, last: float, t: float) -> float:
    a, b = math.atan(first), math.atan(last)
    return math.tan(a + t * (b - a))


def _karras(first: float, last: float, t: float) -> float:
    a, b = first ** (1 / _RHO), last ** (1 / _RHO)
    return float((a + t * (b - a)) ** _RHO)


_SHAPES: dict[ScheduleShape, Callable[[float, float, float], float]] = {
    "exponential": _exponential,
    "linear": _linear,
    "cosine": _cosine,
    "karras": _karras,
}


def noise_levels(
    shape: ScheduleShape,
    first: float,
    last: float,
    N: int,
) -> tuple[float, ...]:
    """N noise levels that fall from the first to the last.

    With ``t = (n - 1) / (N - 1)`` for n = 1..N:

    - ``exponential``: ``first * (last / first) ** t`` (Luther & Seung 2023);
    - ``linear``: ``first + t * (last - first)``;
    - ``cosine``: ``tan(a + t * (b - a))`` with ``tan a = first, tan b = last``. That is the part between
      the two of Nichol & Dhariwal 2021 (arXiv 2102.09672), whose clean share ``cos^2`` of the variance
      makes the noise ``tan`` times the image;
    - ``karras``: ``(a + t * (b - a)) ** 7`` with ``a ** 7 = first, b ** 7 = last`` (Karras et al. 2022,
      arXiv 2206.00364, equation 5).

    Parameters
    ----------
    shape
        Which.
    first, last
        In units of the normalised image; ``first`` alone if N is 1.
    N
        Their number.

    Raises
    ------
    InputError
        If the shape is none of these, a level is not a positive number, they do not decrease, or there
        is none.
    """
    _check_levels(shape, first, last, N, ("sigma_1", "sigma_N"))
    if N > 1 and not last < first:
        raise InputError(
            "sigma_N",
            last,
            f"must be below sigma_1 = {first:g}: noise has to decrease from one iteration to the "
            "next, for what a denoiser made clean would be lost again",
            f"set sigma_N below {first:g}, or sigma_1 above {last:g}",
        )
    return _levels(shape, first, last, N)


def denoising_steps(shape: ScheduleShape, first: float, last: float, N: int) -> tuple[float, ...]:
    """N denoising steps from s_1 to s_N: as :func:`noise_levels`, but they may all be equal.

    Raises
    ------
    InputError
        As there.
    """
    _check_levels(shape, first, last, N, ("s_1", "s_N"))
    if N > 1 and last > first:
        raise InputError(
            "s_N",
            last,
            f"must not be above s_1 = {first:g}: denoising steps shrink with the noise, or stay",
            "set s_N to s_1 or below it",
        )
    return _levels(shape, first, last, N)


def _check_levels(
    shape: ScheduleShape, first: float, last: float, N: int, names: tuple[str, str]
) -> None:
    if shape not in _SHAPES:
        raise InputError("schedule", shape, f"is none of {', '.join(_SHAPES)}")
    for name, value in zip(names, (first, last), strict=True):
        if not (value > 0 and math.isfinite(value)):
            raise InputError(name, value, "a noise level must be a positive number")
    if N < 1:
        raise InputError("N", N, "there must be at least one iteration")


def _levels(shape: ScheduleShape, first: float, last: float, N: int) -> tuple[float, ...]:
    if N == 1:
        return (first,)
    level = _SHAPES[shape]
    between = (level(first, last, n / (N - 1)) for n in range(1, N - 1))
    return (first, *between, last)


def exponential(first: float, last: float, N: int) -> tuple[float, ...]:
    """``first * (last / first) ** ((n - 1) / (N - 1))`` for n = 1..N; see :func:`noise_levels`."""
    return noise_levels("exponential", first, last, N)


def make_schedule(
    *,
    N: int,
    K: float,
    sigma: tuple[float, ...],
    added_noise: float = 1.0,
    denoising_step: tuple[float, ...] | None = None,
    rule: StepRule,
    step_size: float,
    sigma_y: float = 0.0,
    data_weight_cap: float = 1.0,
) -> Schedule:
    """Combine noise levels with a rule for the number of gradient steps.

    K steps of size eta are a gradient flow of duration ``K * eta``. The rule ``paper`` always takes
    K. The rule ``noise-aware`` caps the duration at ``data_weight_cap * sigma_n^2 / sigma_y^2``: the
    data are trusted only as far as they are better than the current noise level.

    Parameters
    ----------
    N, K
        Iterations; gradient steps per iteration (at most, for ``noise-aware``).
    sigma
        Noise levels, N of them.
    added_noise
        Noise that is added as a fraction of sigma; 1 in the paper.
    denoising_step
        s_n; equal to ``sigma`` when None.
    rule, step_size, sigma_y, trust
        The rule; eta; the noise of the data in units of the normalised volume; c of the cap.

    Raises
    ------
    InputError
        If a value is out of its range.
    """
    if len(sigma) != N:
        raise InputError("sigma", f"{len(sigma)} values", f"N = {N} iterations need one each")
    for level in sigma:
        if not (level > 0 and math.isfinite(level)):
            raise InputError("sigma", level, "a noise level must be a positive number")
    if not (added_noise >= 0 and math.isfinite(added_noise)):
        raise InputError("added_noise", added_noise, "a standard deviation cannot be negative")
    if rule not in ("paper", "noise-aware"):
        raise InputError("step_rule", rule, "is neither 'paper' nor 'noise-aware'")
    if not K >= 0:
        raise InputError("K", K, "the number of gradient steps cannot be negative")
    if not (step_size > 0 and math.isfinite(step_size)):
        raise InputError("step_size", step_size, "must be positive", "1 / ||A||^2 is safe")
    if not data_weight_cap > 0:
        raise InputError(
            "data_weight_cap",
            data_weight_cap,
            "must be positive: it is a duration of gradient flow",
        )
    if not sigma_y >= 0:
        raise InputError("sigma_y", sigma_y, "a standard deviation cannot be negative")
    for n, (step, after) in enumerate(pairwise(denoising_step or ()), start=1):
        if after > step:
            raise InputError(
                "denoising_step",
                f"{step:g} at n = {n}, then {after:g}",
                "denoising steps must not grow from one iteration to the next",
            )
    steps = tuple(float(K) for _ in sigma)
    if rule == "noise-aware" and sigma_y > 0:
        rate = sigma_y * sigma_y * step_size  # zero where it is too small for a float
        steps = tuple(
            min(float(K), data_weight_cap * s * s / rate if rate else math.inf) for s in sigma
        )
    added = tuple(added_noise * s for s in sigma)
    return Schedule(sigma, added, sigma if denoising_step is None else denoising_step, steps)
