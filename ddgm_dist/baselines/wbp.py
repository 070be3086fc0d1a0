r"""Weighted back-projection: filter every tilt with a ramp, smear it back, sum over tilts.

Kak & Slaney 1988, "Principles of Computerized Tomographic Imaging", section 3.3, written for the
stretched coordinate. At frequency k along x tilt t holds the slice ``kappa_z = k tan(theta_t)`` of
the volume's transform, ``F(k tan theta_t, k) = sqrt(cos theta_t) b_t(k)``. The inverse transform
over ``kappa_z``, with ``d kappa_z = k / cos^2 d theta``, is a sum over tilts:

    f(z, k) = 1/(2 pi) sum_t dtheta_t |k| / cos^2(theta_t) * sqrt(cos theta_t) b_t(k) e^{i k z tan}
            = sum_t A_k[t, z]^* * (dtheta_t / (2 pi)) |w| * b_t(k),       w = k / cos(theta_t).

It is the adjoint of data that were filtered with the ramp ``|w|`` in the detector's own frequency w,
radians per pixel. The angular weights dtheta_t are half the way to the neighbours on either side. At
k = 0 all tilts see the same sample, ``kappa_z = 0``, whose cell is ``2 pi / thickness`` wide. Their
weighted mean is spread evenly along z, which keeps the mean density.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from ddgm_dist.baselines.least_squares import constant
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator

__all__ = ["Window", "angular_weights", "weighted_back_projection"]

Window = Literal["ram-lak", "cosine", "hann"]


def angular_weights(angles: tuple[float, ...]) -> Tensor:
    """Angular weights dtheta_t, radians, float64 ``(tilt,)``, in the order of the angles.

    The outermost tilts get as much beyond them as towards their neighbours.
    """
    theta, order = torch.tensor(angles, dtype=torch.float64).sort()
    gap = theta.diff()
    if not len(gap) or float(gap.max()) == 0:
        raise InputError(
            "angles_deg",
            f"{len(angles)} tilts at one angle",
            "back-projection sums over angles, so it takes at least two different ones",
        )
    weight = torch.empty_like(theta)
    weight[order] = (torch.cat((gap[:1], gap)) + torch.cat((gap, gap[-1:]))) / 2
    return weight


def weighted_back_projection(
    operator: SlabOperator, data: SlabData, *, window: Window = "ram-lak"
) -> Tensor:
    """Weighted back-projection of all tilts; linear in the data.

    Samples that were not measured are taken as those of the background. It is vacuum around a
    specimen in vacuum, else 0, the mean of the normalised specimen.

    Parameters
    ----------
    operator, data
        A, and b with its mask S.
    window
        Factor of the ramp: 1 (``ram-lak``), ``cos(w / 2)`` or ``(1 + cos w) / 2`` (``hann``).

    Returns
    -------
    Tensor
        Float32 ``(z, rows, columns)``.

    Raises
    ------
    InputError
        For an unknown window, or when all angles are the same.
    """
    ground = constant(operator, data, operator.background)
    b = operator.residual(ground, data)
    H = _filter(operator, window).to(b)[:, None]
    b = torch.fft.irfft(torch.fft.rfft(b) * H, n=operator.length)
    return ground + operator.T(b)


def _filter(operator: SlabOperator, window: Window) -> Tensor:
    """Ramp, window and angular weight, float64 ``(tilt, frequency)``."""
    dtheta = angular_weights(operator.geometry.angles)[:, None]
    cosine = torch.cos(torch.tensor(operator.geometry.angles, dtype=torch.float64))[:, None]
    k = 2 * math.pi * torch.arange(operator.length // 2 + 1, dtype=torch.float64) / operator.length
    w = k / cosine
    if window == "ram-lak":
        W = torch.ones_like(w)
    elif window == "cosine":
        W = torch.cos(w / 2)
    elif window == "hann":
        W = (1 + torch.cos(w)) / 2
    else:
        raise InputError("window", window, f"is none of {', '.join(get_args(Window))}")
    H = dtheta / (2 * math.pi) * w * W
    H[:, 0] = (cosine * dtheta / dtheta.sum() / operator.geometry.thickness)[:, 0]
    return H
