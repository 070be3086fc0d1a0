"""Diffusive Denoising of Gradient-based Minimization (DDGM), the paper's loop.

Luther & Seung 2023, arXiv 2307.04946.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ddgm_dist.algorithm.descent import Descent
from ddgm_dist.algorithm.schedule import Schedule

__all__ = ["ddgm", "ddgm_step"]


def ddgm_step(
    x: Tensor,
    n: int,
    *,
    schedule: Schedule,
    descend: Descent,
    noise: Callable[[int], Tensor],
    denoise: Callable[[Tensor, float, int], Tensor],
) -> Tensor:
    """Iteration n (from 0): explain the data, diffuse, denoise.

    Parameters
    ----------
    x
        Current estimate.
    schedule
        K_n, the added noise, sigma_n and s_n.
    descend
        Gradient steps on the reconstruction error, ``(x, K) -> x``.
    noise
        Standard normal noise of iteration n, of the shape of x.
    denoise
        ``(x, sigma, n) -> E[clean | x]``; the noise prediction is ``(x - denoise(x)) / sigma``.
    """
    sigma_n, s_n = schedule.sigma[n], schedule.denoising_step[n]
    x = descend(x, schedule.steps[n])
    x = x + schedule.added[n] * noise(n)
    eps_hat = (x - denoise(x, sigma_n, n)) / sigma_n
    return x - s_n * eps_hat


def ddgm(
    x: Tensor,
    *,
    schedule: Schedule,
    descend: Descent,
    noise: Callable[[int], Tensor],
    denoise: Callable[[Tensor, float, int], Tensor],
    first: int = 0,
) -> Tensor:
    """All iterations from ``first`` on; see :func:`ddgm_step`. Start from ``x = 0``."""
    for n in range(first, len(schedule)):
        x = ddgm_step(x, n, schedule=schedule, descend=descend, noise=noise, denoise=denoise)
    return x
