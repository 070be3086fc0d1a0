"""Schedules: noise levels, denoising steps and numbers of gradient steps, by iteration."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from ddgm_dist.errors import InputError

__all__ = [
    "IMPUTED_EVERY",
    "Schedule",
    "ScheduleShape",
    "StepRule",
    "denoising_steps",
    "make_schedule",
    "noise_levels",
]

StepRule = Literal["paper", "noise-aware"]
ScheduleShape = Literal["exponential", "linear", "cosine", "karras"]

# Gradient steps between two imputations of rays that were not measured (operators/slab/operator.py).
# Fewer cost time in proportion; docs/quality.md has the gain.
IMPUTED_EVERY = 25

_RHO = 7.0  # Karras et al. 2022

# The level at t in [0, 1], falling from a to b.
_SHAPES: dict[ScheduleShape, Callable[[float, float, float], float]] = {
    "exponential": lambda a, b, t: float(a * (b / a) ** t),
    "linear": lambda a, b, t: a + t * (b - a),
    "cosine": lambda a, b, t: math.tan(math.atan(a) + t * (math.atan(b) - math.atan(a))),
    "karras": lambda a, b, t: float(
        (a ** (1 / _RHO) + t * (b ** (1 / _RHO) - a ** (1 / _RHO))) ** _RHO
    ),
}


@dataclass(frozen=True)
class Schedule:
    """One entry per iteration n = 1..N.

    Attributes
    ----------
    sigma
        Noise level that the denoiser is given.
    added
        Standard deviation of the noise that is added. The paper adds sigma. Less leaves room for the
        estimate's own error, which the denoiser has to remove as well.
    denoising_step
        s_n, the amount of predicted noise that is removed, ``x - s_n * eps_hat``.
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


def noise_levels(shape: ScheduleShape, first: float, last: float, N: int) -> tuple[float, ...]:
    """N noise levels that fall from the first to the last.

    With ``t = (n - 1) / (N - 1)`` for n = 1..N:

    - ``exponential``: ``first * (last / first) ** t`` (Luther & Seung 2023);
    - ``linear``: ``first + t * (last - first)``;
    - ``cosine``: ``tan(a + t * (b - a))`` with ``tan a = first, tan b = last``. It is the part between
      the two levels of Nichol & Dhariwal 2021 (arXiv 2102.09672). Their clean share ``cos^2`` of the
      variance makes the noise ``tan`` times the image;
    - ``karras``: ``(a + t * (b - a)) ** 7`` with ``a ** 7 = first, b ** 7 = last`` (Karras et al. 2022,
      arXiv 2206.00364, equation 5).

    Parameters
    ----------
    shape
        Name of the schedule.
    first, last
        Levels in units of the normalised image; ``first`` alone if N is 1.
    N
        Number of levels.

    Raises
    ------
    InputError
        If the shape is none of these, N is below 1, or a level is not a positive number.
        If the levels do not decrease.
    """
    levels = _levels("sigma", shape, first, last, N)
    if N > 1 and not last < first:
        raise InputError(
            "sigma_N",
            last,
            f"must be below sigma_1 = {first:g}: noise has to decrease from one iteration to the "
            "next, or it would undo what the denoiser did",
            f"set sigma_N below {first:g}, or sigma_1 above {last:g}",
        )
    return levels


def denoising_steps(shape: ScheduleShape, first: float, last: float, N: int) -> tuple[float, ...]:
    """N denoising steps from s_1 to s_N: as :func:`noise_levels`, but they may all be equal.

    Raises
    ------
    InputError
        As :func:`noise_levels`; if the steps increase.
    """
    steps = _levels("s", shape, first, last, N)
    if N > 1 and last > first:
        raise InputError(
            "s_N",
            last,
            f"must not be above s_1 = {first:g}: denoising steps shrink with the noise, or stay",
            "set s_N to s_1 or below it",
        )
    return steps


def _levels(
    name: str, shape: ScheduleShape, first: float, last: float, N: int
) -> tuple[float, ...]:
    if shape not in _SHAPES:
        raise InputError("schedule", shape, f"is none of {', '.join(_SHAPES)}")
    _check_level(f"{name}_1", first)
    _check_level(f"{name}_N", last)
    if N < 1:
        raise InputError("N", N, "there must be at least one iteration")
    between = (_SHAPES[shape](first, last, n / (N - 1)) for n in range(1, N - 1))
    return (first, *between, last)[:N]


def _check_level(name: str, level: float) -> None:
    if not 0 < level < math.inf:
        raise InputError(name, level, "a noise level must be a positive number")


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
    K. The rule ``noise-aware`` caps the duration at ``data_weight_cap * sigma_n^2 / sigma_y^2``, so
    that the data count only as far as they are better than the current noise level.

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
    rule, step_size
        The rule for the number of steps; eta.
    sigma_y, data_weight_cap
        Noise of the data in units of the normalised volume; factor of the cap.

    Raises
    ------
    InputError
        If a value is out of its range.
    """
    if len(sigma) != N:
        raise InputError("sigma", f"{len(sigma)} values", f"N = {N} iterations need one each")
    for level in sigma:
        _check_level("sigma", level)
    deviation = "a standard deviation cannot be negative"
    for name, value, valid, why, hint in (
        ("added_noise", added_noise, 0 <= added_noise < math.inf, deviation, ""),
        ("step_rule", rule, rule in get_args(StepRule), "is neither 'paper' nor 'noise-aware'", ""),
        ("K", K, K >= 0, "the number of gradient steps cannot be negative", ""),
        (
            "step_size",
            step_size,
            0 < step_size < math.inf,
            "must be positive",
            "1 / ||A||^2 is safe",
        ),
        (
            "data_weight_cap",
            data_weight_cap,
            data_weight_cap > 0,
            "must be positive: it is a duration of gradient flow",
            "",
        ),
        ("sigma_y", sigma_y, sigma_y >= 0, deviation, ""),
    ):
        if not valid:
            raise InputError(name, value, why, hint)
    for n, (step, after) in enumerate(pairwise(denoising_step or ()), start=1):
        if after > step:
            raise InputError(
                "denoising_step",
                f"{step:g} at n = {n}, then {after:g}",
                "denoising steps must not grow from one iteration to the next",
            )
    steps = (float(K),) * N
    if rule == "noise-aware" and sigma_y > 0:
        rate = sigma_y * sigma_y * step_size  # zero where it is too small for a float
        caps = (data_weight_cap * s * s / rate if rate else math.inf for s in sigma)
        steps = tuple(min(float(K), cap) for cap in caps)
    added = tuple(added_noise * s for s in sigma)
    return Schedule(sigma, added, sigma if denoising_step is None else denoising_step, steps)
