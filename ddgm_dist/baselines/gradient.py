"""Gradient descent with early stopping: DDGM without its denoiser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from ddgm_dist.baselines.least_squares import constant
from ddgm_dist.operators.slab.operator import SlabData, SlabOperator

__all__ = ["gradient_descent"]


def gradient_descent(
    operator: SlabOperator,
    data: SlabData,
    steps: Sequence[int],
    step_size: float,
    *,
    start: float = 0.0,
    impute_every: int = 5,
) -> Iterator[tuple[int, Tensor]]:
    """Descend by ``x <- x - eta A^T S (A x - b)`` from a constant; stop at each of ``steps``.

    Parameters
    ----------
    operator, data
        A, and b with its mask S.
    steps
        Increasing numbers of steps to stop at.
    step_size
        eta.
    start
        Value of the first estimate.
    impute_every
        Steps between two imputations of unmeasured samples; the steps in between are in closed
        form. 1 is masked descent itself.

    Yields
    ------
    K, x
        Number of steps so far and the estimate, float32 ``(z, rows, columns)``.
    """
    x = constant(operator, data, start)
    done = 0
    for K in steps:
        while done < K:
            run = min(impute_every, K - done)
            x, _ = operator.descend(x, data, run, step_size)
            done += run
        yield K, x
