"""The physics as the algorithm sees it, and plain descent for any linear operator."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from ddgm_dist.errors import InputError

__all__ = ["Descent", "LinearOperator", "check_data", "check_measured", "explicit_descent"]


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
        Their number; ``3.5`` is three steps and one of half the size.
    step_size
        eta, in (0, 2 / ||A||^2).
    measured
        S, 1 where b was measured, 0 elsewhere; all ones when None.

    Raises
    ------
    InputError
        If the data are not of the shape of A x, or the mask does not fit them.
    """
    check_measured(measured, data)
    whole = int(steps)
    for fraction in [1.0] * whole + ([steps - whole] if steps > whole else []):
        prediction = operator.A(x)
        check_data(data, prediction)
        residual = prediction - data
        if measured is not None:
            residual = residual * measured
        x = x - step_size * fraction * operator.T(residual)
    return x


def check_data(data: Tensor, prediction: Tensor) -> None:
    """Refuse data that are not of the shape of their prediction, which would be broadcast."""
    if data.shape != prediction.shape:
        raise InputError(
            "data",
            tuple(data.shape),
            f"do not fit the operator, which makes {tuple(prediction.shape)} of this image",
        )


def check_measured(measured: Tensor | None, data: Tensor) -> None:
    """Refuse a mask of the data that does not fit them."""
    if measured is None:
        return
    axes = zip(reversed(measured.shape), reversed(data.shape), strict=False)
    if measured.ndim > data.ndim or any(m not in (1, d) for m, d in axes):
        raise InputError(
            "measured",
            tuple(measured.shape),
            f"does not fit the data, which are {tuple(data.shape)}",
            "give one value per sample, or axes of length 1 where they share it",
        )
