"""Networks of one kind by name: the files of a name, and the networks that a process keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import torch

from ddgm_dist.prior.precision import Precision, arithmetic

__all__ = ["SHIPPED", "NetworkCache"]

SHIPPED = "fibsem"

# Networks that a process keeps; the last two used: one on the CPU and one on a GPU.
_KEPT = 2

Loaded = TypeVar("Loaded")
Build = Callable[[Path, torch.device | str, Precision], Loaded]


class NetworkCache(Generic[Loaded]):
    """Networks of one kind, each of which a process builds once.

    Nobody may change a network that is kept here.

    Parameters
    ----------
    argument
        Key of the configuration that names one, such as ``denoiser``.
    shipped
        Gives the path of the weights that come with the package.
    build
        Builds the network of a file of weights, for a device and an arithmetic.
    """

    def __init__(self, argument: str, shipped: Callable[[], Path], build: Build[Loaded]) -> None:
        self.argument, self.shipped, self.build = argument, shipped, build
        self.kept: dict[tuple[str, ...], Loaded] = {}

    def weights(self, name: str) -> Path | None:
        """Path of the weights of a name; None where it names no weights of ours."""
        if name == SHIPPED:
            return self.shipped()
        return Path(name) if Path(name).suffix == ".safetensors" else None

    def files(self, name: str) -> list[tuple[str, Path]]:
        """The user's files that a name stands for, each as ``(argument, path)``."""
        files = [] if name == SHIPPED else [Path(name), Path(name).with_suffix(".json")]
        return [(self.argument, file.resolve()) for file in files if file.is_file()]

    def get(self, weights: Path, device: torch.device | str, precision: Precision) -> Loaded:
        """The network of a file, kept or built now.

        The files are read at each call: if they have changed, they are another network.
        """
        digests = _file_digests(weights)
        # ``cuda`` is whichever GPU is the current one.
        place = torch.empty(0, device=device).device
        key = (*digests, str(arithmetic(precision, device)), str(place))
        found = self.kept.pop(key, None)
        if found is None:
            found = self.build(weights, device, precision)
            if _file_digests(weights) != digests:  # replaced while it was loaded
                return found
        self.kept[key] = found
        for old in list(self.kept)[:-_KEPT]:
            self.kept.pop(old, None)
        return found


def _file_digests(weights: Path) -> tuple[str, str]:
    """Digests of a file of weights and of its recipe."""
    files = (weights, weights.with_suffix(".json"))
    first, second = (file.read_bytes() if file.is_file() else b"" for file in files)
    return hashlib.sha256(first).hexdigest(), hashlib.sha256(second).hexdigest()
