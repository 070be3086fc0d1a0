"""Restorers ready for use: a network of ours, or a user's Python function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddgm_dist.algorithm.restorer import Acquisition, Restorer
from ddgm_dist.errors import InputError
from ddgm_dist.prior.network_cache import SHIPPED, NetworkCache
from ddgm_dist.prior.precision import Precision, arithmetic
from ddgm_dist.prior.restoring_unet import RestoringUNet, acquisition_features
from ddgm_dist.prior.trained_ranges import TrainedRanges
from ddgm_dist.prior.users_function import UsersFunction, import_function
from ddgm_dist.prior.weights import load_restorer_weights, shipped_restorer_weights

__all__ = [
    "FunctionRestorer",
    "LoadedRestorer",
    "UNetRestorer",
    "load_restorer",
    "restorer_files",
    "shared_restorer",
]

_CALLED = (
    "it is called as f(images, noise, acquisition), with repeats = True as f(images, noise, "
    "acquisition, estimates), images float32 (batch, 2 neighbours + 1, z, x), and returns (batch, z, x)"
)
# Rows on each side that a function may ask for: each costs a tile as much reading as its own.
_MOST_NEIGHBOURS = 64


class UNetRestorer:
    """``R(x_w, noise, acquisition)`` of a trained network (:mod:`ddgm_dist.prior.restoring_unet`).

    Parameters
    ----------
    net
        The network.
    device, precision
        Where and in which arithmetic the network runs (:mod:`ddgm_dist.prior.precision`); input and
        output stay float32.
    repeats
        True if the network was trained for repeated calls.
    """

    def __init__(
        self,
        net: RestoringUNet,
        *,
        repeats: bool = True,
        device: torch.device | str = "cpu",
        precision: Precision = "bfloat16",
    ) -> None:
        net = net.to(device=device, dtype=arithmetic(precision, device))
        self.net: RestoringUNet = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.stride, self.neighbours = net.spec.stride, net.spec.neighbours
        self.repeats = repeats

    def __call__(
        self,
        images: Tensor,
        noise: float,
        acquisition: Acquisition,
        coverage: Tensor,
        estimates: Tensor | None = None,
    ) -> Tensor:
        """Restored images; see :class:`ddgm_dist.algorithm.restorer.Restorer`."""
        with torch.no_grad():
            level = torch.full((images.shape[0],), noise)
            again = estimates is not None
            features = acquisition_features(level, acquisition, images.device, again=again)
            restored: Tensor = self.net(images, features, coverage, estimates)
        return restored


class FunctionRestorer:
    """A user's ``(images, noise, acquisition) -> restored``.

    Images are float32 ``(batch, 2 r + 1, z, x)``, the regularized inverses of the rows y - r to y + r,
    and what it returns is ``(batch, z, x)``. The function may carry the attributes ``stride``, if
    image extents must be multiples of it, and ``neighbours``, its r; they are 1 and 0 otherwise. If it
    carries ``repeats = True``, it is called as ``(images, noise, acquisition, estimates)``, and may be
    called again (:class:`ddgm_dist.algorithm.restorer.Restorer`).

    Raises
    ------
    InputError
        An attribute is no whole number within its bounds.
    """

    def __init__(self, function: Callable[[Tensor, float, Acquisition], Any], name: str) -> None:
        self.function = UsersFunction(function, "restorer", name, _CALLED)
        self.stride = self.function.whole_number("stride", 1, least=1)
        self.neighbours = self.function.whole_number("neighbours", 0, least=0)
        self.repeats = bool(getattr(function, "repeats", False))
        if self.neighbours > _MOST_NEIGHBOURS:
            raise self.function.error(
                f"its attribute neighbours is {self.neighbours}, more than {_MOST_NEIGHBOURS}"
            )

    def __call__(
        self,
        images: Tensor,
        noise: float,
        acquisition: Acquisition,
        coverage: Tensor,
        estimates: Tensor | None = None,
    ) -> Tensor:
        """Restored images; checked for type, shape and finiteness.

        Raises
        ------
        InputError
            The function raised an error (with its place in the code), or returned what cannot be used.
        MemoryError
            The function reported that memory is lacking. Other errors of memory and device pass through.
        """
        with torch.no_grad():
            return self.function(
                images * (coverage[:, None] > 0),
                noise,
                acquisition,
                *([estimates] if self.repeats else []),
                shape=tuple(coverage.shape),
                when=f"at noise = {noise:g}",
            )


@dataclass(frozen=True)
class LoadedRestorer:
    """A restorer with the properties that a plan and a record need.

    Attributes
    ----------
    restorer
        The callable; see :class:`ddgm_dist.algorithm.restorer.Restorer`.
    digest
        SHA-256 of its weights or source.
    reach
        Radius of its receptive field in pixels; 0 when unknown.
    activation
        Bytes per voxel that a call holds. That of a user's function is unknown, and taken as that of
        a few float32 images.
    trained
        Series that it was trained for; None where that is unknown.
    """

    restorer: Restorer
    digest: str
    reach: int = 0
    activation: float = 64.0
    trained: TrainedRanges | None = None


def load_restorer(
    name: str, *, device: torch.device | str = "cpu", precision: Precision = "bfloat16"
) -> LoadedRestorer:
    """Load a restorer by name.

    Parameters
    ----------
    name
        ``fibsem`` (the shipped weights), the path of a ``.safetensors`` of our recipe, or
        ``module:callable``.
    device, precision
        Where and in which arithmetic a network runs (:mod:`ddgm_dist.prior.precision`).

    Raises
    ------
    InputError
        It cannot be found or used.
    """
    if (weights := _networks.weights(name)) is not None:
        return _network(weights, device, precision)
    if ":" in name:
        function, digest = import_function("restorer", name)
        return LoadedRestorer(FunctionRestorer(function, name), digest)
    raise InputError(
        "restorer", name, f"is neither {SHIPPED!r} (shipped), a .safetensors nor module:callable"
    )


def shared_restorer(
    name: str, *, device: torch.device | str = "cpu", precision: Precision = "bfloat16"
) -> LoadedRestorer:
    """Load a restorer as `load_restorer` does, but build each network once per process.

    Nobody may change it. The files are read at each call: if they have changed, they are another
    network.
    """
    weights = _networks.weights(name)
    if weights is None:
        return load_restorer(name, device=device, precision=precision)
    return _networks.get(weights, device, precision)


def restorer_files(name: str) -> list[tuple[str, Path]]:
    """Files of a restorer that `load_restorer` reads, each as ``("restorer", path)``."""
    return _networks.files(name)


def _network(path: Path, device: torch.device | str, precision: Precision) -> LoadedRestorer:
    weights = load_restorer_weights(path)
    recipe = str(path.with_suffix(".json"))
    trained = TrainedRanges.from_dict(weights.recipe.get("trained_for"), recipe)
    repeats = trained is not None and trained.calls[1] > 1
    return LoadedRestorer(
        UNetRestorer(weights.net, repeats=repeats, device=device, precision=precision),
        weights.digest,
        weights.net.reach,
        weights.net.spec.activation(arithmetic(precision, device).itemsize),
        trained,
    )


_networks = NetworkCache("restorer", shipped_restorer_weights, _network)
