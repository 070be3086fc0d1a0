"""CGLS: conjugate gradients on the normal equations of the masked least-squares problem.

Hestenes & Stiefel 1952; in the symbols of Bjorck, "Numerical Methods for Least Squares Problems"
(SIAM 1996), Algorithm 7.4.1 with ``S A`` for A. No descent in the span of the gradients is faster.
So it also fits the noise fastest, and the number of steps is the regularisation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from ddgm_dist.baselines.least_squares import constant, dot
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator

__all__ = ["cgls"]


def cgls(
    operator: SlabOperator,
    data: SlabData,
    steps: Sequence[int],
    *,
    start: float = 0.0,
) -> Iterator[tuple[int, Tensor]]:
    """``min_x ||S (A x - b)||``, with the estimate after each of ``steps``.

    Parameters
    ----------
    operator, data
        A, and b with its mask S.
    steps
        Increasing numbers of steps to stop at.
    start
        Value of the first estimate, in normalised units.

    Yields
    ------
    k, x
        Number of steps and the estimate, float32 ``(z, rows, columns)``. From a start of 0 it
        tends to the solution of smallest norm. Once the gradient vanishes x stays as it is.
    """
    x = constant(operator, data, start)
    r = operator.residual(x, data)
    s = operator.T(r)
    p, gamma = s, dot(s, s)
    done = 0
    for stop in steps:
        while done < stop:
            done += 1
            q = data.measured * operator.A_linear(p)
            delta = dot(q, q)
            if delta == 0 or gamma == 0:
                continue
            alpha = gamma / delta
            x = x + alpha * p
            r = r - alpha * q
            s = operator.T(r)
            gamma, previous = dot(s, s), gamma
            p = s + (gamma / previous) * p
        yield stop, x
