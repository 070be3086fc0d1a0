"""Functions that all operators share: the norm of an operator, and the check of a mask."""

from __future__ import annotations

import torch
from torch import Tensor

from ddgm_dist.algorithm.descent import LinearOperator
from ddgm_dist.algorithm.residual import check_binary
from ddgm_dist.errors import InputError

__all__ = ["check_mask", "operator_norm_squared"]


def operator_norm_squared(
    operator: LinearOperator, shape: tuple[int, int, int], *, iterations: int = 50, seed: int = 0
) -> float:
    """``||A||^2`` by power iteration on ``A^T A``: a lower bound that tightens.

    The bound is within a few percent unless the spectrum is crowded at its top. So take
    ``eta = 0.9 / result``, not ``2 / result``.

    Parameters
    ----------
    operator
        Operator with ``A(x)`` and ``T(y)``.
    shape
        Shape of its images, ``(z, rows, columns)``.
    iterations
        Number of iterations.
    seed
        Seed of the first image.
    """
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    found = 0.0
    for _ in range(iterations):
        size = float(x.norm())
        if size == 0:
            return 0.0
        x = x / size
        found = float(torch.linalg.vector_norm(operator.A(x))) ** 2
        x = operator.T(operator.A(x))
    return found


def check_mask(mask: Tensor, shape: tuple[int, ...], *, of: str) -> Tensor:
    """The mask as float32, or an error that says why it does not fit.

    Parameters
    ----------
    mask
        True or 1 where something was measured, False or 0 elsewhere.
    shape
        Shape that it must have.
    of
        Name of the array that has this shape, for the message.

    Raises
    ------
    InputError
        If the shape differs, a value is neither 0 nor 1, or nothing was measured.
    """
    if tuple(mask.shape) != tuple(shape):
        swapped = tuple(mask.shape) == tuple(reversed(shape))
        raise InputError(
            "mask",
            tuple(mask.shape),
            f"does not fit {of}, which is {tuple(shape)}",
            "transpose it" if swapped else "a mask has one value per sample",
        )
    check_binary(mask, "mask")
    return mask.to(torch.float32)
