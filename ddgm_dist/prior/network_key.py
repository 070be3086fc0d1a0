"""The key of a network that a process keeps: files, arithmetic and device."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from ddgm_dist.prior.precision import Precision, arithmetic

__all__ = ["file_digests", "network_key"]


def file_digests(weights: Path) -> tuple[str, str]:
    """Digests of a file of weights and of its recipe."""
    files = (weights, weights.with_suffix(".json"))
    first, second = (file.read_bytes() if file.is_file() else b"" for file in files)
    return hashlib.sha256(first).hexdigest(), hashlib.sha256(second).hexdigest()


def network_key(
    weights: Path, device: torch.device | str, precision: Precision
) -> tuple[str, str, str, str]:
    """The two digests, the arithmetic, and the device with its number.

    ``cuda`` is whichever GPU is the current one.
    """
    place = torch.empty(0, device=device).device
    return (*file_digests(weights), str(arithmetic(precision, device)), str(place))
