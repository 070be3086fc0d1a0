r"""DPS: diffusion posterior sampling, its gradient taken through the denoiser.

Chung, Kim, McCann, Klasky & Ye 2023, arXiv 2209.14687, Algorithm 1 with variance exploding:

    x_hat_0 = D(x_i, sigma_i)
    x'      = x_hat_0 + (sigma_{i-1} / sigma_i)^2 (x_i - x_hat_0)
              + sigma_{i-1} sqrt(1 - (sigma_{i-1} / sigma_i)^2) z
    x_{i-1} = x' - zeta_i grad_{x_i} ||S (b - A x_hat_0)||^2,      zeta_i = zeta / ||S (b - A x_hat_0)||.

By the chain rule the gradient is ``-2 J^T A^T S (b - A x_hat_0)`` with J the denoiser's Jacobian:
one vector-Jacobian product. Two choices are made for the slab. The norm is taken per row, for rows
are separate images. zeta is in units of ``1 / ||A||``, for the paper's operators have norm 1. So
where J does not amplify, no row moves by more than 2 zeta a step, and the data are met to about that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ddgm_dist.baselines.least_squares import constant
from ddgm_dist.baselines.noise_levels import Denoise, Noise, walk
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.basis import norm_squared
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator

__all__ = ["data_gradient", "dps"]


def data_gradient(
    operator: SlabOperator, data: SlabData, x: Tensor, denoise: Denoise, sigma: float, n: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The denoised estimate, ``||S (b - A x_hat_0)||`` per row, and ``grad_x`` of its square.

    Returns
    -------
    x_hat_0, norm, gradient
        Float32 ``(z, rows, columns)``, ``(rows, 1)`` and ``(z, rows, columns)``.

    Raises
    ------
    InputError
        If the denoised volume has no gradient with respect to x.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        x_hat = denoise(x, sigma, n)
    if not x_hat.requires_grad:
        raise InputError(
            "denoise",
            repr(denoise),
            "its result has no gradient: DPS differentiates through the denoiser",
            "call it without torch.no_grad, torch.inference_mode or detach",
        )
    r = operator.residual(x_hat.detach(), data)
    (gradient,) = torch.autograd.grad(x_hat, x, -2 * operator.T(r))
    return x_hat.detach(), r.square().sum(dim=(0, 2)).sqrt()[:, None], gradient


def dps(
    operator: SlabOperator,
    data: SlabData,
    *,
    denoise: Denoise,
    noise: Noise,
    sigma: Sequence[float],
    zeta: float = 1.0,
    start: float = 0.0,
) -> Tensor:
    """Sample the posterior.

    Parameters
    ----------
    operator, data
        A, and b with its mask S.
    denoise
        ``(x, sigma, n) -> E[clean | x]``, differentiable in x.
    noise
        Standard normal noise by number: 0 for the start, n + 1 in iteration n.
    sigma
        Decreasing noise levels; 0 follows.
    zeta
        zeta' of the paper, in units of ``1 / ||A||``: half of the longest step of a row.
    start
        Value about which the sampler starts.

    Returns
    -------
    Tensor
        x_0, float32 ``(z, rows, columns)``.

    Raises
    ------
    InputError
        If the levels do not decrease, zeta is negative, or the denoiser passes no gradient.
    """
    levels = list(walk(sigma))
    if not (zeta >= 0 and math.isfinite(zeta)):
        raise InputError("zeta", zeta, "a step size cannot be negative")
    unit = zeta / math.sqrt(norm_squared(operator.geometry))
    x = constant(operator, data, start) + sigma[0] * noise(0)
    for n, sigma_i, sigma_next in levels:
        x_hat, norm, gradient = data_gradient(operator, data, x, denoise, sigma_i, n)
        kept = (sigma_next / sigma_i) ** 2
        x = x_hat + kept * (x - x_hat) + sigma_next * math.sqrt(1 - kept) * noise(n + 1)
        x = x - unit / norm.clamp(min=1e-20) * gradient
    return x
