r"""Transmission tomography: the counts behind an absorbing specimen.

    I(x) = I0 exp(-t(x)),    t(x) = background + scale * A x     (Beer-Lambert),

with A any linear projector and x the specimen in the prior's unit (zero mean, unit variance). The
attenuation per voxel is ``mean + scale * x``, and the background is the projection of the mean. The
vector-Jacobian product is ``J(x)^T v = -scale A^T (I v)``.

With Poisson counts the negative log-likelihood ``sum I - y log I`` is convex in x: its Hessian is
``scale^2 A^T diag(I) A``, at most ``scale^2 max(I) ||A||^2``. Counts of 0 can be used, though they
have no logarithm.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddgm_dist.algorithm.descent import LinearOperator
from ddgm_dist.algorithm.nonlinear import Pullback
from ddgm_dist.errors import InputError

__all__ = ["Transmission", "log_linearise"]


class Transmission:
    """Expected counts behind a specimen; see the module's docstring.

    Parameters
    ----------
    projector
        A: volumes float32 ``(z, rows, columns)`` to line integrals ``(tilt, rows, u)``.
    blank
        I0, counts per sample without a specimen; a number, or a flat field that broadcasts to the
        projections.
    background
        Line integrals at x = 0, broadcastable to the projections.
    scale
        Attenuation per voxel of one unit of x; negative if bright means little absorption.

    Raises
    ------
    InputError
        If I0 is not positive or the scale is 0.
    """

    def __init__(
        self,
        projector: LinearOperator,
        blank: float | Tensor,
        *,
        background: float | Tensor = 0.0,
        scale: float = 1.0,
    ) -> None:
        self.blank = torch.as_tensor(blank, dtype=torch.float32)
        if not bool((torch.isfinite(self.blank) & (self.blank > 0)).all()):
            raise InputError(
                "blank",
                f"smallest {float(self.blank.min()):g}",
                "counts without a specimen must be positive everywhere",
                "mask pixels that see nothing",
            )
        if not (math.isfinite(scale) and scale != 0):
            raise InputError("scale", scale, "the specimen would not show in the counts")
        self.projector, self.scale = projector, scale
        self.background = torch.as_tensor(background, dtype=torch.float32)

    def A(self, x: Tensor) -> Tensor:
        """Expected counts ``I(x)``, float32 ``(tilt, rows, u)``."""
        return self.blank * torch.exp(-self.background - self.scale * self.projector.A(x))

    def vjp(self, x: Tensor) -> tuple[Tensor, Pullback]:
        """Return ``I(x)`` and ``v -> -scale A^T (I v)``."""
        counts = self.A(x)
        return counts, lambda v: -self.scale * self.projector.T(counts * v)

    def step_size(self, counts: Tensor, projector_norm_squared: float) -> float:
        """eta: one over the largest curvature that the data suggest.

        It is ``1 / (scale^2 I_max ||A||^2)`` with ``I_max`` the largest mean count of a tilt, for
        single counts are too noisy. Where an estimate expects more counts,
        :func:`~ddgm_dist.algorithm.nonlinear.nonlinear_descent` shortens its steps.

        Parameters
        ----------
        counts
            y, ``(tilt, rows, u)``.
        projector_norm_squared
            ``||A||^2``.
        """
        if counts.ndim != 3:
            raise InputError("counts", tuple(counts.shape), "must be (tilt, rows, u)")
        if not projector_norm_squared > 0:
            raise InputError(
                "projector_norm_squared",
                projector_norm_squared,
                "must be positive",
                "dd.operator_norm_squared(projector, shape) estimates it",
            )
        brightest = float(counts.float().mean(dim=(1, 2)).max())
        if not brightest > 0:
            raise InputError("counts", brightest, "nothing was counted at any tilt")
        return 1 / (self.scale**2 * brightest * projector_norm_squared)


def log_linearise(
    counts: Tensor, blank: float | Tensor, *, least: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Return ``log(I0 / max(y, least))`` and its standard deviation ``1 / sqrt(max(y, least))``.

    With many counts it makes transmission a linear problem. With few it is biased, for the mean
    logarithm of a Poisson count is not the logarithm of its mean. A count of 0 has no logarithm, so
    it is replaced by ``least``.

    Parameters
    ----------
    counts, blank
        y, 0 or more; I0, broadcastable to y.
    least
        Value that replaces smaller counts.
    """
    if not least > 0:
        raise InputError("least", least, "must be positive: a count of 0 has no logarithm")
    kept = counts.clamp(min=least)
    return torch.log(blank / kept), kept.rsqrt()
