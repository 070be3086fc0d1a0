"""The residual of the data where they were measured, and checks of data and masks."""

from __future__ import annotations

import torch
from torch import Tensor

from ddgm_dist.errors import InputError

__all__ = ["check_binary", "check_measured", "masked_residual"]


def masked_residual(data: Tensor, prediction: Tensor, measured: Tensor | None = None) -> Tensor:
    """Masked residual ``S (b - A x)``; data where S = 0 do not matter, NaN included.

    Raises
    ------
    InputError
        If the data differ in shape from their prediction, or are not finite where measured.
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
    check_binary(measured, "measured")


def check_binary(mask: Tensor, name: str) -> None:
    """Refuse a mask that is not of 0 and 1, or says that nothing was measured."""
    if mask.is_complex() or not bool(((mask == 0) | (mask == 1)).all()):
        raise InputError(
            name,
            f"{mask.dtype} values",
            "must be 1 where something was measured and 0 elsewhere, and nothing between",
            f"compare with a threshold: {name} > 0.5",
        )
    if not bool(mask.any()):
        raise InputError(name, "all 0", "nothing was measured")
