r"""Descent through an operator that is not linear, by its vector-Jacobian product.

    x <- x - eta J(x)^T slope(F(x)),    J = dF/dx,

for the slope of any :class:`~ddgm_dist.algorithm.likelihood.Likelihood`. With a linear F and Gaussian
noise that is :func:`~ddgm_dist.algorithm.descent.explicit_descent` with ``eta = step_size / sigma_y^2``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ddgm_dist.algorithm.likelihood import Likelihood
from ddgm_dist.errors import InputError

__all__ = ["Differentiable", "Linear", "NonlinearOperator", "Pullback", "nonlinear_descent"]

Pullback = Callable[[Tensor], Tensor]
"""The map ``v -> J(x)^T v`` at one x."""

# A step is halved at most this often. Rises by less than this fraction are rounding.
_HALVINGS, _ROUNDING = 30, 1e-9


class NonlinearOperator(Protocol):
    """A prediction of the data with its vector-Jacobian product."""

    def vjp(self, x: Tensor) -> tuple[Tensor, Pullback]:
        """Return ``F(x)`` and ``v -> J(x)^T v``; the second costs nothing until it is called."""


class Differentiable:
    """Any function that torch can differentiate, as a :class:`NonlinearOperator`.

    Parameters
    ----------
    function
        F, from an image to a prediction of the data, float32, made of torch operations.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def vjp(self, x: Tensor) -> tuple[Tensor, Pullback]:
        """Return ``F(x)`` and ``v -> J(x)^T v`` by automatic differentiation."""
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            prediction = self.function(leaf)
        if not prediction.requires_grad:
            raise InputError(
                "function",
                getattr(self.function, "__name__", type(self.function).__name__),
                "does not depend on its argument in a way that torch can differentiate",
                "keep to torch operations, without .detach(), .item() or numpy",
            )

        def pull(v: Tensor) -> Tensor:
            (gradient,) = torch.autograd.grad(prediction, leaf, v)
            return gradient

        return prediction.detach(), pull


class Linear:
    """A linear operator as a :class:`NonlinearOperator`, for noise that is not Gaussian.

    Parameters
    ----------
    A, T
        The operator and its adjoint.
    """

    def __init__(self, A: Callable[[Tensor], Tensor], T: Callable[[Tensor], Tensor]) -> None:
        self.A, self.T = A, T

    def vjp(self, x: Tensor) -> tuple[Tensor, Pullback]:
        """Return ``A x`` and the adjoint."""
        return self.A(x), self.T


def nonlinear_descent(
    operator: NonlinearOperator,
    likelihood: Likelihood,
    x: Tensor,
    steps: float,
    step_size: float,
) -> Tensor:
    """``steps`` gradient steps on the negative log-likelihood, which never rises.

    A step that would raise it, or make it NaN, is halved until it does not. Far from the data an
    exponential's curvature can exceed any bound that holds near them.

    Parameters
    ----------
    operator, likelihood
        F, and the negative log-likelihood of its prediction.
    x
        Start.
    steps
        Number of steps; ``3.5`` is three steps and one of half the size.
    step_size
        eta, at most one over the curvature of the negative log-likelihood.

    Raises
    ------
    InputError
        If the step size is not positive.
    """
    if not step_size > 0:
        raise InputError("step_size", step_size, "must be positive")
    whole = int(steps)
    prediction, pull = operator.vjp(x)
    value = likelihood.value(prediction)
    for fraction in [1.0] * whole + ([steps - whole] if steps > whole else []):
        gradient, length = pull(likelihood.slope(prediction)), step_size * fraction
        for _ in range(_HALVINGS):
            candidate = x - length * gradient
            next_prediction, next_pull = operator.vjp(candidate)
            next_value = likelihood.value(next_prediction)
            if next_value <= value + _ROUNDING * abs(value):
                break
            length /= 2
        else:
            return x  # not even the smallest step descends: rounding is all that is left
        x, prediction, pull, value = candidate, next_prediction, next_pull, next_value
    return x
