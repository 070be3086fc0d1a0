r"""Least squares with total variation, by the primal-dual method of Chambolle & Pock.

    min_x  1/2 ||S (A x - b)||^2 + lam TV(x),     TV(x) = sum |D x|_2,

D x = (d_z x, d_x x) forward differences in every (z, x) slice, zero at the far edges: isotropic TV
(Rudin, Osher & Fatemi 1992). Chambolle & Pock 2011 (J. Math. Imaging Vis. 40, 120), Algorithm 1
with theta = 1, K = D, ``F = lam |.|_2``, G = the data term:

    q <- P(q + sigma D x_bar),   P the projection onto |q| <= lam at every voxel
    x <- prox_{tau G}(x - tau D^T q)
    x_bar <- 2 x_new - x_old,    tau sigma ||D||^2 <= 1, ||D||^2 <= 8.

Where everything is measured the proximal map is the closed form per frequency, so A's conditioning
costs no iterations. Under a mask it takes a few warm-started conjugate gradients.

Certificate. Take any w, any q with |q| <= lam, ``u = S (A x - b)`` and ``d = A^T u + D^T q``. Then
the objective at w is at least ``<d, w> - <u, S b> - 1/2 |u|^2`` (w's part in A linear). Over
``|w - x| <= R`` this gives

    objective(x) - objective(w) <= lam TV(x) - <q, D x> + R |d|,

the primal-dual gap restricted to a ball (their section 3.1); :func:`gap` takes R = |x|.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddgm_dist.baselines.least_squares import constant, dot, negative_gradient, proximal
from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.basis import norm_squared
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator

__all__ = ["PrimalDual", "difference", "difference_adjoint", "gap", "total_variation", "variation"]

_NORM_D = math.sqrt(8)


@dataclass(frozen=True)
class PrimalDual:
    """An estimate and its dual.

    Attributes
    ----------
    x
        Float32 ``(z, rows, columns)``.
    q
        Float32 ``(2, z, rows, columns)``, at most lam long at every voxel.
    """

    x: Tensor
    q: Tensor


def difference(x: Tensor) -> Tensor:
    """Forward differences ``D x``, ``(z, rows, columns)`` to ``(2, z, rows, columns)``."""
    out = x.new_zeros((2, *x.shape))
    out[0, :-1] = x[1:] - x[:-1]
    out[1, :, :, :-1] = x[:, :, 1:] - x[:, :, :-1]
    return out


def difference_adjoint(q: Tensor) -> Tensor:
    """Adjoint ``D^T q``, ``(2, z, rows, columns)`` to ``(z, rows, columns)``."""
    out = q.new_zeros(q.shape[1:])
    out[1:] += q[0, :-1]
    out[:-1] -= q[0, :-1]
    out[:, :, 1:] += q[1, :, :, :-1]
    out[:, :, :-1] -= q[1, :, :, :-1]
    return out


def variation(x: Tensor) -> float:
    """Isotropic total variation ``TV(x) = sum |D x|_2``, summed in float64."""
    return float(difference(x).norm(dim=0).sum(dtype=torch.float64))


def gap(operator: SlabOperator, data: SlabData, state: PrimalDual, lam: float) -> float:
    """Upper bound on the objective at x less its minimum over ``|w - x| <= |x|``."""
    x, q = state.x, state.q
    d = difference_adjoint(q) - negative_gradient(operator, data, x)
    return lam * variation(x) - dot(q, difference(x)) + math.sqrt(dot(x, x) * dot(d, d))


def total_variation(
    operator: SlabOperator,
    data: SlabData,
    steps: Sequence[int],
    lam: float,
    *,
    start: float = 0.0,
    tau: float | None = None,
    inner: int = 5,
) -> Iterator[tuple[int, PrimalDual]]:
    """Chambolle-Pock from a constant, with the state after each of ``steps``.

    Parameters
    ----------
    operator, data
        A, and b with its mask S.
    steps
        Increasing numbers of steps to stop at.
    lam
        Weight of the total variation; the data term is a sum over samples, in normalised units.
    start
        Value of the first estimate.
    tau
        Primal step, in the unit of 1 / ||A||^2. It changes the speed, not the answer. None takes
        ``1 / (sqrt(8) lam)``: q then crosses its ball while x changes by its own size.
    inner
        Conjugate gradients per proximal map, at most.

    Raises
    ------
    InputError
        If lam is negative or tau is not positive.
    """
    if not (lam >= 0 and math.isfinite(lam)):
        raise InputError("lam", lam, "the weight of the variation must be a number, 0 or more")
    if tau is None:
        tau = 1 / (_NORM_D * max(lam, 1e-3 * norm_squared(operator.geometry)))
    if not tau > 0:
        raise InputError("tau", tau, "a step must be positive", "leave it out")
    sigma = 1 / (tau * _NORM_D**2)
    x = x_bar = constant(operator, data, start)
    q = x.new_zeros((2, *x.shape))
    done = 0
    for stop in steps:
        for _ in range(done, stop):
            q = q + sigma * difference(x_bar)
            q = q * (lam / q.norm(dim=0).clamp(min=max(lam, 1e-30)))
            v = x - tau * difference_adjoint(q)
            new = proximal(operator, data, v, 1 / tau, start=x, iterations=inner)
            x, x_bar = new, 2 * new - x
        done = max(done, stop)
        yield stop, PrimalDual(x, q)
