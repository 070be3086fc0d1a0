"""The data term that the baselines share, ``f(x) = 1/2 ||S (A x - b)||^2``, and its proximal map.

S is 0 or 1, so ``S^2 = S`` and ``grad f(x) = A^T S (A x - b)``. Sums over volumes are taken in
float64; the volumes themselves are float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddgm_dist.errors import InputError
from ddgm_dist.operators.slab.basis import norm_squared
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator

__all__ = [
    "constant",
    "dot",
    "first_estimate",
    "misfit",
    "negative_gradient",
    "proximal",
    "resolvent",
]

# Damping of the preconditioner, in units of ||A||^2.
_DAMPING = 1e-2


def constant(operator: SlabOperator, data: SlabData, value: float = 0.0) -> Tensor:
    """A volume of one value, float32 ``(z, rows, columns)``."""
    rows = data.stretched.shape[1]
    width = operator.columns[1] - operator.columns[0]
    return torch.full((operator.geometry.thickness, rows, width), value, device=operator.device)


def first_estimate(operator: SlabOperator, data: SlabData, start: float | Tensor) -> Tensor:
    """The estimate that a method begins from: a volume of one value, or the volume given.

    Raises
    ------
    InputError
        A volume is not of the operator's shape, ``(z, rows, columns)``.
    """
    if not isinstance(start, Tensor):
        return constant(operator, data, start)
    shape = (
        operator.geometry.thickness,
        data.stretched.shape[1],
        operator.columns[1] - operator.columns[0],
    )
    if start.shape != shape:
        raise InputError(
            "start",
            f"shape {tuple(start.shape)}",
            f"must be a number or a volume of the shape {shape} that is solved for",
        )
    return start


def dot(a: Tensor, b: Tensor) -> float:
    """Inner product ``<a, b>``, summed in float64."""
    return float((a * b).sum(dtype=torch.float64))


def misfit(operator: SlabOperator, data: SlabData, x: Tensor) -> float:
    """The data term ``f(x) = 1/2 ||S (A x - b)||^2``."""
    r = operator.residual(x, data)
    return dot(r, r) / 2


def negative_gradient(operator: SlabOperator, data: SlabData, x: Tensor) -> Tensor:
    """Negative gradient ``-grad f(x) = A^T S (b - A x)``, float32 ``(z, rows, columns)``."""
    return operator.T(operator.residual(x, data))


def resolvent(operator: SlabOperator, g: Tensor, rho: float) -> Tensor:
    """``(G + rho)^-1 g`` through the eigenbasis of ``G = A^T A``; rho is positive.

    It is the inverse where the columns are the operator's whole period. Where they are fewer, g
    is padded with zeros and the result cropped. That is still symmetric and positive, so it is a
    preconditioner.
    """
    factor = (1 / (operator.basis.values + rho)).to(torch.float32)
    return operator.from_modes(operator.to_modes(g).mul_(factor[:, :, None]))


def proximal(
    operator: SlabOperator,
    data: SlabData,
    v: Tensor,
    rho: float,
    *,
    start: Tensor | None = None,
    iterations: int = 20,
    tolerance: float = 1e-5,
) -> Tensor:
    """Proximal map ``argmin_x 1/2 ||S (A x - b)||^2 + rho/2 ||x - v||^2``.

    Conjugate gradients on ``(A^T S A + rho) x = A^T S b + rho v``, preconditioned with
    :func:`resolvent`. From ``start = v`` the first direction is ``(G + rho')^-1 A^T S (b - A v)``.
    Where everything is measured over the whole period, ``rho' = rho`` and one iteration is the
    closed form.

    With a mask or a crop the first iteration imputes every unmeasured sample with v's own projection,
    along an exact line search. Further iterations converge to the minimiser with the mask. There
    modes that G sees weakly differ from those that the mask sees weakly. ``rho' >= ||A||^2 / 100``
    keeps the first iterations from filling these: 5 leave less than 1 % of the objective's excess.

    Parameters
    ----------
    operator, data
        A, and b with its mask S.
    v, rho
        Centre, float32 ``(z, rows, columns)``; weight, in units of A's squared singular values.
    start
        First estimate, for warm starts; v when None.
    iterations, tolerance
        Most iterations. They end earlier when the gradient is below ``tolerance`` times the sum of
        its data part and its centre part at the start.

    Raises
    ------
    InputError
        If rho or the number of iterations is not positive.
    """
    if not (rho > 0 and math.isfinite(rho)):
        raise InputError(
            "rho",
            rho,
            "must be a positive number: without it nothing fixes what the data do not see",
            "for least squares alone use cgls",
        )
    if iterations < 1:
        raise InputError("iterations", iterations, "the proximal map takes at least one")
    x = v if start is None else start
    whole = operator.length == v.shape[-1] and bool((data.measured == 1).all())
    damping = rho if whole else max(rho, _DAMPING * norm_squared(operator.geometry))
    pull, back = negative_gradient(operator, data, x), rho * (v - x)
    enough = tolerance * (math.sqrt(dot(pull, pull)) + math.sqrt(dot(back, back)))
    r = pull + back
    p, gamma = torch.zeros_like(r), math.inf
    for _ in range(iterations):
        if math.sqrt(dot(r, r)) <= enough:
            break
        z = resolvent(operator, r, damping)
        gamma, previous = dot(r, z), gamma
        p = z + (gamma / previous) * p
        Hp = operator.T(data.measured * operator.A_linear(p)) + rho * p
        alpha = gamma / dot(p, Hp)
        x, r = x + alpha * p, r - alpha * Hp
    return x
