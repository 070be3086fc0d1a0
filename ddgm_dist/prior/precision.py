"""The arithmetic of a network, by what the processor can do."""

from __future__ import annotations

from typing import Literal

import torch

__all__ = ["Precision", "arithmetic", "has_bfloat16"]

Precision = Literal["bfloat16", "float32"]
_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def has_bfloat16(device: torch.device | str) -> bool:
    """Return whether convolutions in bfloat16 run at full speed on a device.

    A CPU needs AVX-512 or its counterpart on Arm. Otherwise torch falls back to plain loops: on a CPU
    with AVX2 the shipped network took 10 to 20 times as long as in float32.
    """
    if torch.device(device).type != "cpu":
        return True
    return bool(
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def arithmetic(precision: Precision, device: torch.device | str) -> torch.dtype:
    """The arithmetic of a network: float32 in place of a bfloat16 that the processor does not have."""
    return _DTYPES[precision] if has_bfloat16(device) else torch.float32
