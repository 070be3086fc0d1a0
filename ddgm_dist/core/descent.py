"""The physics as the algorithm sees it, and plain descent for any linear operator."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ddgm_dist.errors import InputError

__all__ = ["Descent", "LinearOperator", "check_measured", "explicit_descent", "misfit"]


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
        If the data are not of the shape of A x, hold NaN or infinity where they were measured, or the
        mask does not fit them.
    """
    check_measured(measured, data)
    whole = int(steps)
    for fraction in [1.0] * whole + ([steps - whole] if steps > whole else []):
        x = x + step_size * fraction * operator.T(misfit(data, operator.A(x), measured))
    return x


def misfit(data: Tensor, prediction: Tensor, measured: Tensor | None = None) -> Tensor:
    """``S (b - A x)``; what the data hold where nothing was measured does not matter, NaN included.

    Raises
    ------
    InputError
        If the data are not of the shape of their prediction, or not finite where measured.
    """
    if not isinstance(data, Tensor):
        raise InputError(
            "data", type(data).__name__, "is not a tensor", "use torch.as_tensor(data)"
        )
    if data.shape != prediction.shape:
        raise InputError(
            "data",
            tuple(data.shape),
            f"do not fit the operator, which makes {tuple(prediction.shape)} of this image",
        )
    difference = data - prediction
    if measured is not None:
        difference = torch.where(measured > 0, difference, torch.zeros_like(difference))
    if not bool(torch.isfinite(difference).all()):
        raise InputError(
            "data",
            "NaN or infinity",
            "is neither a measurement nor an image: in the data where the mask says that they were "
            "measured, or in the estimate",
            "mask such samples; if the estimate diverged, take a smaller step_size",
        )
    return difference


def check_measured(measured: Tensor | None, data: Tensor) -> None:
    """Refuse a mask of the data that does not fit them, or is not of 0 and 1."""
    if measured is None:
        return
    if not isinstance(measured, Tensor):
        raise InputError(
            "measured", type(measured).__name__, "is not a tensor", "use torch.as_tensor(measured)"
        )
    axes = zip(reversed(measured.shape), reversed(data.shape), strict=False)
    if measured.ndim > data.ndim or any(m not in (1, d) for m, d in axes):
        raise InputError(
            "measured",
            tuple(measured.shape),
            f"does not fit the data, which are {tuple(data.shape)}",
            "give one value per sample, or axes of length 1 where they share it",
        )
    if not bool(((measured == 0) | (measured == 1)).all()):
        raise InputError(
            "measured",
            f"{measured.dtype} values",
            "must be 1 where something was measured and 0 elsewhere, and nothing between",
            "compare with a threshold: measured > 0.5",
        )
    if not bool(measured.any()):
        raise InputError("measured", "all 0", "nothing was measured")
