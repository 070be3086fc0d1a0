"""The physics as the algorithm sees it, and plain descent for any linear operator."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from ddgm_dist.algorithm.residual import check_measured, masked_residual

__all__ = ["Descent", "LinearOperator", "explicit_descent"]


class Descent(Protocol):
    """Gradient steps on the reconstruction error of one block: all DDGM needs of the physics."""

    def __call__(self, x: Tensor, steps: float) -> Tensor:
        """``steps`` gradient steps from ``x``; a fraction is a shorter last step."""


class LinearOperator(Protocol):
    """A linear operator with an exact adjoint."""

    def A(self, x: Tensor) -> Tensor:
        """Apply the operator."""

    def T(self, y: Tensor) -> Tensor:
        """Apply the adjoint."""


def explicit_descent(
    operator: LinearOperator,
    x: Tensor,
    data: Tensor,
    steps: float,
    step_size: float,
    *,
    measured: Tensor | None = None,
) -> Tensor:
    """``x <- x - eta A^T S (A x - b)``, ``steps`` times: the reference for every closed form.

    Parameters
    ----------
    operator, data
        A and b.
    x
        Start.
    steps
        Number of steps; ``3.5`` is three steps and one of half the size.
    step_size
        eta, in (0, 2 / ||A||^2).
    measured
        S, 1 where b was measured, 0 elsewhere; all ones when None.

    Raises
    ------
    InputError
        If the data differ in shape from A x, or hold NaN or infinity where they were measured.
        If the mask does not fit them.
    """
    check_measured(measured, data)
    whole = int(steps)
    for fraction in [1.0] * whole + ([steps - whole] if steps > whole else []):
        x = x + step_size * fraction * operator.T(masked_residual(data, operator.A(x), measured))
    return x
