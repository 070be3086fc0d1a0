r"""DDRM: denoising diffusion restoration in the operator's singular basis.

Kawar, Elad, Ermon & Song 2022, arXiv 2201.11793, section 3. The slab operator's singular
vectors V and squared singular values s_i^2 are known per frequency (the eigenbasis of G). In that
basis (bars), with x_theta the denoised x_{t+1}, mode i of x_t is normal with

    mean  x_theta + sqrt(1 - eta^2) sigma_t (x_{t+1} - x_theta) / sigma_{t+1}   s_i = 0
          x_theta + sqrt(1 - eta^2) sigma_t (y - x_theta) / (sigma_y / s_i)     sigma_t <  sigma_y / s_i
          (1 - eta_b) x_theta + eta_b y                                         sigma_t >= sigma_y / s_i

and deviation ``eta sigma_t``, ``eta sigma_t``, ``sqrt(sigma_t^2 - eta_b^2 sigma_y^2 / s_i^2)``. The
start x_T is centred on y where ``sigma_T >= sigma_y / s_i``, else on 0.

Masks. ``y = V^T A^+ b`` enters only as ``y - x_theta = s^-2 V^T A^T (b - A x_theta)``. Unmeasured
samples of b are imputed with the projection of x_theta, so the residual is ``S (b - A x_theta)``.
That is the paper's update where S = 1, and an approximation otherwise: an imputed sample counts as
measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ddgm_dist.baselines.least_squares import first_estimate
from ddgm_dist.baselines.noise_levels import Denoise, Noise, check_fraction, check_sigma_y, walk
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator

__all__ = ["ddrm", "singular_values"]


def singular_values(operator: SlabOperator, cut: float) -> Tensor:
    """s, float64 ``(frequency, z)``; those below ``cut`` times the largest are 0."""
    s = operator.basis.values.sqrt()
    return torch.where(s >= cut * s.max(), s, 0.0)


def ddrm(
    operator: SlabOperator,
    data: SlabData,
    *,
    denoise: Denoise,
    noise: Noise,
    sigma: Sequence[float],
    sigma_y: float,
    eta: float = 0.85,
    eta_b: float = 1.0,
    cut: float = 1e-2,
    start: float | Tensor = 0.0,
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
        Decreasing noise levels sigma_T ... sigma_1; sigma_0 = 0 follows.
    sigma_y
        Noise of the data, in units of the normalised projections.
    eta, eta_b
        Fresh noise in unseen modes; weight of the data in well seen ones. The paper's are the
        defaults.
    cut
        Singular values below this part of the largest count as 0. With sigma_y = 0 every other
        mode is taken from the data, errors of float32 and of the model included.
    start
        Estimate about which unseen modes start, or the one value that it has.

    Returns
    -------
    Tensor
        x_0, float32 ``(z, rows, columns)``.

    Raises
    ------
    InputError
        If the levels do not decrease, sigma_y is negative, eta, eta_b or cut is out of its range.
    """
    levels = list(walk(sigma))
    check_sigma_y(sigma_y, zero=True)
    check_fraction("eta", eta)
    check_fraction("eta_b", eta_b)
    if not 0 < cut < 1:
        raise InputError("cut", cut, "is a part of the largest singular value, within (0, 1)")
    s = singular_values(operator, cut)

    def step(
        centre: Tensor, last: Tensor, n: int, weights: tuple[Tensor, Tensor, Tensor]
    ) -> Tensor:
        """``centre`` plus weighted modes of the last state, of the data and of new noise."""
        kept, pull, fresh = (w.to(torch.float32)[:, :, None] for w in weights)
        modes = kept * operator.to_modes(last - centre) + fresh * operator.to_modes(noise(n))
        modes += pull * operator.data_to_modes(operator.residual(centre, data))
        return centre + operator.from_modes(modes)

    x = first_estimate(operator, data, start)
    # The start is a step from the estimate with eta = eta_b = 1: no previous state, all noise new.
    x = step(x, x, 0, _weights(s, sigma[0], math.inf, sigma_y, 1.0, 1.0))
    for n, sigma_last, sigma_t in levels:
        x_theta = denoise(x, sigma_last, n)
        x = step(x_theta, x, n + 1, _weights(s, sigma_t, sigma_last, sigma_y, eta, eta_b))
    return x


def _weights(
    s: Tensor, sigma_t: float, sigma_last: float, sigma_y: float, eta: float, eta_b: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of ``x_{t+1} - x_theta``, ``V^T A^T (b - A x_theta)`` and noise, ``(frequency, z)``."""
    unseen = s == 0
    inverse = torch.where(unseen, 0.0, 1 / s)  # infinities of 1 / s are not used
    noisy = ~unseen & (sigma_t * s < sigma_y)
    keep = math.sqrt(1 - eta**2) * sigma_t
    zero = torch.zeros_like(s)
    last = torch.where(unseen, zero + keep / sigma_last, zero)
    pull = torch.where(
        noisy, inverse * (keep / sigma_y if sigma_y else 0.0), eta_b * inverse.square()
    )
    left = (sigma_t**2 - (eta_b * sigma_y * inverse).square()).clamp(min=0).sqrt()
    fresh = torch.where(unseen | noisy, zero + eta * sigma_t, left)
    return last, pull, fresh
