"""Plug-and-play: a denoiser in place of a regulariser's proximal map.

PnP-PGD: proximal gradient descent (Kamilov, Mansour & Wohlberg 2017, after
Venkatakrishnan, Bouman & Wohlberg 2013),

    x <- D_sigma(x - eta A^T S (A x - b)).

DPIR: half-quadratic splitting with falling noise levels (Zhang et al. 2021, "Plug-and-play image
restoration with deep denoiser prior", IEEE TPAMI 44, 6360; Algorithm 1),

    x_k = argmin_x ||b - A x||^2 + alpha_k ||x - z_{k-1}||^2,    alpha_k = lam sigma_y^2 / sigma_k^2,
    z_k = D_{sigma_k}(x_k).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ddgm_dist.baselines.least_squares import first_estimate, negative_gradient, proximal
from ddgm_dist.baselines.noise_levels import Denoise, check_sigma_y, walk
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator

__all__ = ["dpir", "pnp_pgd"]


def pnp_pgd(
    operator: SlabOperator,
    data: SlabData,
    *,
    denoise: Denoise,
    sigma: float,
    step_size: float,
    steps: int,
    start: float | Tensor = 0.0,
) -> Tensor:
    """Alternate a gradient step and denoising at one level, ``steps`` times.

    Parameters
    ----------
    operator, data
        A, and b with its mask S.
    denoise
        ``(x, sigma, n) -> E[clean | x]``.
    sigma
        The denoiser's level, in normalised units: the strength of the prior.
    step_size
        eta, in (0, 2 / ||A||^2).
    steps
        Number of steps.
    start
        The first estimate, or the one value that it has.

    Returns
    -------
    Tensor
        Float32 ``(z, rows, columns)``.
    """
    if not step_size > 0:
        raise InputError("step_size", step_size, "must be positive")
    if not sigma > 0:
        raise InputError("sigma", sigma, "the denoiser's noise level must be positive")
    x = first_estimate(operator, data, start)
    for n in range(steps):
        x = denoise(x + step_size * negative_gradient(operator, data, x), sigma, n)
    return x


def dpir(
    operator: SlabOperator,
    data: SlabData,
    *,
    denoise: Denoise,
    sigma: Sequence[float],
    sigma_y: float,
    lam: float = 0.23,
    start: float | Tensor = 0.0,
    inner: int = 5,
    data_step: Callable[[Tensor, float], Tensor] | None = None,
) -> Tensor:
    """Half-quadratic splitting: fit the data near z, denoise, at every noise level.

    Parameters
    ----------
    operator, data
        A, and b with its mask S.
    denoise
        ``(x, sigma, n) -> E[clean | x]``.
    sigma
        Decreasing noise levels sigma_k; the paper ends at sigma_y in the image's unit, about
        ``sigma_y / ||A||`` of a well seen mode here.
    sigma_y
        Noise of the data, in units of the normalised projections; positive.
    lam
        Strength of the prior; 0.23 in the paper.
    start
        The first estimate z_0, or the one value that it has.
    inner
        Conjugate gradients per proximal map, at most; see
        :func:`~ddgm_dist.baselines.least_squares.proximal`.
    data_step
        Another way to the minimum, ``(z, alpha_k) -> x_k``, in place of ``inner`` conjugate gradients.

    Returns
    -------
    Tensor
        z of the last level, float32 ``(z, rows, columns)``.

    Raises
    ------
    InputError
        If the levels do not decrease, or sigma_y or lam is not positive.
    """
    check_sigma_y(sigma_y, zero=False)
    if not lam > 0:
        raise InputError("lam", lam, "the strength of the prior must be positive")
    z = first_estimate(operator, data, start)
    for k, sigma_k, _ in walk(sigma):
        alpha_k = lam * sigma_y**2 / sigma_k**2
        if data_step:
            x = data_step(z, alpha_k)
        else:
            x = proximal(operator, data, z, alpha_k, iterations=inner)
        z = denoise(x, sigma_k, k)
    return z
