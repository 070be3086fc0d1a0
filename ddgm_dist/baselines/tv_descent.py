r"""Total variation with any smooth data term, through its gradient alone.

    min_x  f(x) + lam TV(x)

by the primal-dual method of Condat (J. Optim. Theory Appl. 158, 460, 2013; Algorithm 3.1 with
rho = 1) and Vu (Adv. Comput. Math. 38, 667, 2013):

    x_new <- x - tau (grad f(x) + D^T q)
    q     <- P(q + sigma D (2 x_new - x)),    P the projection onto |q| <= lam at every voxel,
    1 / tau - sigma ||D||^2 >= L / 2,   L the gradient's Lipschitz constant, ||D||^2 <= 8.

It needs a gradient only, so it serves every operator and noise. For the slab
:mod:`ddgm_dist.baselines.total_variation` needs fewer iterations, as it has a proximal map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from ddgm_dist.baselines.total_variation import PrimalDual, difference, difference_adjoint
from ddgm_dist.errors import InputError

__all__ = ["tv_descent"]

_NORM_D_SQUARED = 8.0


def tv_descent(
    gradient: Callable[[Tensor], Tensor],
    x: Tensor,
    steps: Sequence[int],
    lam: float,
    lipschitz: float,
) -> Iterator[tuple[int, PrimalDual]]:
    """Condat-Vu from x, with the state after each of ``steps``.

    Parameters
    ----------
    gradient
        Gradient of f, float32 ``(z, rows, columns)`` to the same shape.
    x
        Start.
    steps
        Increasing numbers of steps to stop at.
    lam
        Weight of the total variation, in the unit of f.
    lipschitz
        L, an upper bound.

    Raises
    ------
    InputError
        If lam is negative or L is not positive.
    """
    if not lam >= 0:
        raise InputError("lam", lam, "the weight of the variation must be a number, 0 or more")
    if not lipschitz > 0:
        raise InputError("lipschitz", lipschitz, "must be positive")
    # Half of 1 / tau for the data, half for the dual: q then crosses its ball while x changes by 1.
    sigma = max(lipschitz / (2 * _NORM_D_SQUARED), 1e-12)
    tau = 1 / (lipschitz / 2 + sigma * _NORM_D_SQUARED)
    q = x.new_zeros((2, *x.shape))
    done = 0
    for stop in steps:
        for _ in range(done, stop):
            new = x - tau * (gradient(x) + difference_adjoint(q))
            q = q + sigma * difference(2 * new - x)
            q = q * (lam / q.norm(dim=0).clamp(min=max(lam, 1e-30)))
            x = new
        done = max(done, stop)
        yield stop, PrimalDual(x, q)
