"""Denoisers ready for use: the U-Net, a user's Python function, a TorchScript file."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ddgm_dist.errors import InputError
from ddgm_dist.prior.likeness import Likeness
from ddgm_dist.prior.network_cache import SHIPPED, NetworkCache
from ddgm_dist.prior.precision import Precision, arithmetic
from ddgm_dist.prior.unet import UNet
from ddgm_dist.prior.users_function import UsersFunction, import_function
from ddgm_dist.prior.weights import load_weights, shipped_weights

__all__ = [
    "FunctionDenoiser",
    "LoadedDenoiser",
    "UNetDenoiser",
    "load_denoiser",
    "shared_denoiser",
    "weight_files",
]

_ANY_SIGMA = (0.0, float("inf"))
_CALLED = "it is called as f(x, sigma), x float32 (batch, z, x) and sigma a number"


def _gradient_if_asked(x: Tensor) -> torch.set_grad_enabled:
    """Differentiable in x where x asks for it (a baseline does), else without a graph's memory."""
    return torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad)


class UNetDenoiser:
    """``D(x, sigma)`` of a trained network (formula in :mod:`ddgm_dist.prior.unet`).

    Parameters
    ----------
    net
        The network.
    device, precision
        Where and in which arithmetic the network runs (:mod:`ddgm_dist.prior.precision`); input and
        output stay float32.
    """

    def __init__(
        self, net: UNet, *, device: torch.device | str = "cpu", precision: Precision = "bfloat16"
    ) -> None:
        net = net.to(device=device, dtype=arithmetic(precision, device))
        self.net: UNet = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.stride = net.spec.stride

    def __call__(self, x: Tensor, sigma: float, inside: Tensor) -> Tensor:
        """Denoised images; see :class:`ddgm_dist.algorithm.denoiser.Denoiser`."""
        with _gradient_if_asked(x):
            scale = (1 + sigma * sigma) ** -0.5
            level = torch.full((x.shape[0],), sigma, device=x.device)
            predicted = self.net(x * scale, level, inside).float()
            denoised: Tensor = x * (scale * scale) + predicted * (sigma * scale)
        return denoised


class FunctionDenoiser:
    """A user's ``(x, sigma) -> denoised``, x float32 ``(batch, z, x)`` and sigma a float.

    The function may carry an attribute ``stride`` if image extents must be multiples of it.

    Raises
    ------
    InputError
        The attribute is no whole number of at least 1.
    """

    def __init__(self, function: Callable[[Tensor, Any], Tensor], name: str) -> None:
        self.function = UsersFunction(function, "denoiser", name, _CALLED)
        self.takes_tensor = isinstance(function, torch.nn.Module)
        self.stride = self.function.whole_number("stride", 1, least=1)

    def __call__(self, x: Tensor, sigma: float, inside: Tensor) -> Tensor:
        """Denoised images; checked for type, shape and finiteness.

        Raises
        ------
        InputError
            The function raised an error (with its place in the code), or returned what cannot be used.
        MemoryError
            The function reported that memory is lacking. Other errors of memory and device pass through.
        """
        argument = torch.tensor(sigma) if self.takes_tensor else sigma
        with _gradient_if_asked(x):
            when = f"at sigma = {sigma:g}"
            return self.function(x * inside, argument, shape=tuple(x.shape), when=when)


@dataclass(frozen=True)
class LoadedDenoiser:
    """A denoiser with the properties that a plan and a record need.

    Attributes
    ----------
    denoiser
        The callable; see :class:`ddgm_dist.algorithm.denoiser.Denoiser`.
    digest
        SHA-256 of its weights or source.
    sigma_range
        Noise levels it was trained for.
    reach
        Radius of its receptive field in pixels; 0 when unknown.
    activation
        Bytes per voxel that a call holds. That of a user's function is unknown, and taken as that of
        a few float32 images.
    likeness
        Statistics of the images that it was trained on; None where its recipe has none.
    """

    denoiser: UNetDenoiser | FunctionDenoiser
    digest: str
    sigma_range: tuple[float, float]
    reach: int
    activation: float = 64.0
    likeness: Likeness | None = None


def load_denoiser(
    name: str, *, device: torch.device | str = "cpu", precision: Precision = "bfloat16"
) -> LoadedDenoiser:
    """Load a denoiser by name; the caller may change the network.

    Parameters
    ----------
    name
        ``fibsem`` (the shipped weights), the path of a ``.safetensors`` of our recipe, the path of
        a TorchScript file (``.pt``, ``.ts`` or ``.torchscript``), or ``module:callable``.
    device, precision
        Where and in which arithmetic a network runs (:mod:`ddgm_dist.prior.precision`).

    Raises
    ------
    InputError
        If it cannot be found or used.
    """
    path = Path(name)
    if (weights := _networks.weights(name)) is not None:
        return _network(weights, device, precision)
    if path.suffix in (".pt", ".ts", ".torchscript"):
        return _torchscript(path, device)
    if ":" in name:
        return _function(name)
    raise InputError(
        "denoiser",
        name,
        f"is neither {SHIPPED!r} (shipped), a .safetensors, a TorchScript file nor module:callable",
    )


def shared_denoiser(
    name: str, *, device: torch.device | str = "cpu", precision: Precision = "bfloat16"
) -> LoadedDenoiser:
    """Load a denoiser as `load_denoiser` does, but build each network once per process.

    Runs use it for planning and solving. Nobody may change its networks. The files are read at each
    call: if they have changed, they are another network. TorchScript may hold a state that a call
    changes, so it is loaded anew.
    """
    weights = _networks.weights(name)
    if weights is None:
        return load_denoiser(name, device=device, precision=precision)
    return _networks.get(weights, device, precision)


def weight_files(name: str) -> list[tuple[str, Path]]:
    """Files of a denoiser that `load_denoiser` reads, each as ``("denoiser", path)``."""
    return _networks.files(name)


def _network(path: Path, device: torch.device | str, precision: Precision) -> LoadedDenoiser:
    weights = load_weights(path)
    return LoadedDenoiser(
        UNetDenoiser(weights.net, device=device, precision=precision),
        weights.digest,
        weights.sigma_range,
        weights.net.reach,
        weights.net.spec.activation(arithmetic(precision, device).itemsize),
        Likeness.from_dict(weights.recipe.get("statistics")),
    )


_networks = NetworkCache("denoiser", shipped_weights, _network)


def _torchscript(path: Path, device: torch.device | str) -> LoadedDenoiser:
    if not path.exists():
        raise InputError("denoiser", str(path), "no such file")
    try:
        content = path.read_bytes()
        with warnings.catch_warnings():
            # torch advises against TorchScript; files of it are what users have.
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(io.BytesIO(content), map_location=device)  # type: ignore[no-untyped-call]
        function = FunctionDenoiser(cast(torch.nn.Module, module).eval(), path.name)
    except (RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError("denoiser", str(path), f"is not a TorchScript file: {reason}") from error
    return LoadedDenoiser(function, hashlib.sha256(content).hexdigest(), _ANY_SIGMA, 0)


def _function(name: str) -> LoadedDenoiser:
    function, digest = import_function("denoiser", name)
    return LoadedDenoiser(FunctionDenoiser(function, name), digest, _ANY_SIGMA, 0)
