r"""DiffPIR: a diffusion sampler whose every denoised estimate is fitted to the data.

Zhu, Zhang, Liang, Cao, Wen, Timofte & Van Gool 2023, arXiv 2305.08995, Algorithm 1:

    x_0^(t)  = D(x_t, sigma_t)
    x_hat_0  = argmin_x ||b - A x||^2 + rho_t ||x - x_0^(t)||^2,     rho_t = lam sigma_y^2 / sigma_t^2
    eps_hat  = (x_t - x_hat_0) / sigma_t
    x_{t-1}  = x_hat_0 + sigma_{t-1} (sqrt(1 - zeta) eps_hat + sqrt(zeta) eps_t)

written with variance exploding (:mod:`ddgm_dist.baselines.noise_levels`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from ddgm_dist.baselines.least_squares import first_estimate, proximal
from ddgm_dist.baselines.noise_levels import Denoise, Noise, check_fraction, check_sigma_y, walk
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator

__all__ = ["diffpir"]


def diffpir(
    operator: SlabOperator,
    data: SlabData,
    *,
    denoise: Denoise,
    noise: Noise,
    sigma: Sequence[float],
    sigma_y: float,
    lam: float = 8.0,
    zeta: float = 0.3,
    start: float | Tensor = 0.0,
    inner: int = 5,
    data_step: Callable[[Tensor, float], Tensor] | None = None,
) -> Tensor:
    """Sample the posterior.

    Parameters
    ----------
    operator, data
        A, and b with its mask S.
    denoise
        ``(x, sigma, n) -> E[clean | x]``.
    noise
        Standard normal noise by number: 0 for the start, n + 1 in iteration n.
    sigma
        Decreasing noise levels; 0 follows.
    sigma_y
        Noise of the data, in units of the normalised projections; positive.
    lam
        Weight of the prior against the data.
    zeta
        Part of the noise's variance that is drawn anew.
    start
        Estimate about which the sampler starts, or the one value that it has.
    inner
        Conjugate gradients per proximal map, at most; see
        :func:`~ddgm_dist.baselines.least_squares.proximal`.
    data_step
        Another way to the fitted estimate, ``(x_0, rho_t) -> x_hat_0``, in place of ``inner`` conjugate
        gradients.

    Returns
    -------
    Tensor
        x_0, float32 ``(z, rows, columns)``.

    Raises
    ------
    InputError
        If the levels do not decrease, sigma_y or lam is not positive, or zeta is not in [0, 1].
    """
    levels = list(walk(sigma))
    check_sigma_y(sigma_y, zero=False)
    check_fraction("zeta", zeta)
    if not lam > 0:
        raise InputError("lam", lam, "the weight of the prior must be positive")
    x = first_estimate(operator, data, start) + sigma[0] * noise(0)
    for n, sigma_t, sigma_next in levels:
        x_0 = denoise(x, sigma_t, n)
        rho_t = lam * sigma_y**2 / sigma_t**2
        if data_step:
            x_hat = data_step(x_0, rho_t)
        else:
            x_hat = proximal(operator, data, x_0, rho_t, iterations=inner)
        eps_hat = (x - x_hat) / sigma_t
        x = x_hat + sigma_next * (math.sqrt(1 - zeta) * eps_hat + math.sqrt(zeta) * noise(n + 1))
    return x
