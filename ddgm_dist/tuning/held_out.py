r"""Error of a reconstruction, estimated from projections that it did not use.

By the Fourier slice theorem, a projection of an error ``e(z, x)`` at tilt theta holds the error's power
on one line through Fourier space's origin. At frequency k along s on the stretched grid
(:mod:`ddgm_dist.operators.slab.stretch`) it is

    P_t(k) = thickness / cos(theta_t) * S_e(omega = k / cos(theta_t), theta_t),   |k| <= pi cos(theta_t).

The mean squared error per voxel is the integral of ``S_e`` over all directions. The share of one
direction is ``1 / (2 pi) * integral of S_e(omega) omega d omega``. So, with an integral from 0 to
pi cos(theta_t),

    E_t = 1 / (2 pi thickness cos(theta_t)) * integral of (P_t(k) - sigma_y^2) k dk

is what the mean squared error would be if it were in all directions as it is in this one. (In fact
the integral ends at 0.85 of the band: beyond, stretching attenuates the data.) The held-out
projection's own noise is white with power sigma_y^2 on that band and independent of the reconstruction.
It is subtracted. The pixels of a projection count all frequencies alike. The factor k weights them as
the volume does, which has few low frequencies and many high ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["HeldOutError", "held_out_error"]

# Of the detector's band: where stretching is exact to 1e-3 (ddgm_dist.operators.slab.stretch).
BAND = 0.85


@dataclass(frozen=True)
class HeldOutError:
    """Error of one held-out tilt, over the rows of a block.

    Attributes
    ----------
    error
        ``E_t``, in units of the volume's variance; may fall below 0 by chance.
    misfit
        Mean squared residual over what the noise alone would give: 1 for a perfect prediction. None
        where no noise is known.
    """

    error: float
    misfit: float | None


def held_out_error(
    residual: Tensor, measured: Tensor, angle: float, thickness: int, sigma_y: float
) -> HeldOutError | None:
    """``E_t`` of one tilt; see the module's docstring.

    Parameters
    ----------
    residual
        ``S (C b - A x)``, stretched, normalised units, float ``(rows, length)``.
    measured
        S, broadcastable to it.
    angle
        Tilt angle, radians.
    thickness
        Thickness of the specimen, voxels.
    sigma_y
        Noise of the projections in normalised units.

    Returns
    -------
    HeldOutError or None
        None when the tilt holds fewer than 16 measured columns. A Hann window over those from the
        first measured column to the last keeps their ends from leaking into high frequencies.
    """
    columns = torch.nonzero((measured > 0).any(dim=0)).flatten()
    if len(columns) < 16:
        return None
    first, last = int(columns[0]), int(columns[-1]) + 1
    length = residual.shape[-1]
    taper = torch.zeros(length, dtype=torch.float64)
    taper[first:last] = torch.hann_window(last - first + 2, periodic=False, dtype=torch.float64)[
        1:-1
    ]
    mask = measured.double().cpu().expand(residual.shape) * taper
    r = residual.double().cpu()
    cosine = math.cos(angle)
    k = 2 * math.pi * torch.arange(length // 2 + 1, dtype=torch.float64) / length
    power = torch.fft.rfft(r * mask).abs().square().sum(dim=0) / mask.square().sum()
    weight = k * (k <= BAND * math.pi * cosine) * (2 * math.pi / length)
    share = weight / (2 * math.pi * thickness * cosine)
    error = float(((power - sigma_y * sigma_y) * share).sum())
    # On s, which is sampled 1 / cos finer than the detector, white noise has the variance
    # sigma_y^2 cos.
    noise = sigma_y * sigma_y * cosine * float(mask.square().sum())
    misfit = float((r * mask).square().sum()) / noise if noise > 0 else None
    return HeldOutError(error, misfit)
