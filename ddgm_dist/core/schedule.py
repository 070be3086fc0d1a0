"""Schedules: how much noise, how bold a denoising step, how many gradient steps, at each n."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ddgm_dist.errors import InputError

__all__ = ["Schedule", "StepRule", "exponential", "make_schedule"]

StepRule = Literal["paper", "noise-aware"]


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

    def __len__(self) -> int:
        return len(self.sigma)


def exponential(first: float, last: float, N: int) -> tuple[float, ...]:
    """``first * (last / first) ** ((n - 1) / (N - 1))`` for n = 1..N (Luther & Seung 2023)."""
    for name, value in (("sigma_1", first), ("sigma_N", last)):
        if not (value > 0 and math.isfinite(value)):
            raise InputError(name, value, "a noise level must be a positive number")
    if N < 1:
        raise InputError("N", N, "there must be at least one iteration")
    if N == 1:
        return (first,)
    return tuple(first * (last / first) ** (n / (N - 1)) for n in range(N))


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
    trust: float = 1.0,
) -> Schedule:
    """Combine noise levels with a rule for the number of gradient steps.

    K steps of size eta are a gradient flow of duration ``K * eta``. The rule ``paper`` always takes
    K. The rule ``noise-aware`` caps the duration at ``trust * sigma_n^2 / sigma_y^2``: the data are
    trusted only as far as they are better than the current noise level.

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
    if added_noise < 0:
        raise InputError("added_noise", added_noise, "a standard deviation cannot be negative")
    if rule not in ("paper", "noise-aware"):
        raise InputError("step_rule", rule, "is neither 'paper' nor 'noise-aware'")
    if not K >= 0:
        raise InputError("K", K, "the number of gradient steps cannot be negative")
    steps = tuple(float(K) for _ in sigma)
    if rule == "noise-aware" and sigma_y > 0:
        steps = tuple(min(float(K), trust * s * s / (sigma_y * sigma_y * step_size)) for s in sigma)
    added = tuple(added_noise * s for s in sigma)
    return Schedule(sigma, added, sigma if denoising_step is None else denoising_step, steps)
