"""Weights as safetensors with a JSON recipe beside them; never a pickle.

``NAME.safetensors`` holds the parameters in half precision. ``NAME.json`` holds the recipe:
architecture, range of noise levels, training data with attribution, and training figures. It also
holds the SHA-256 of the weights, so that a damaged or swapped file is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Generic, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from ddgm_dist.errors import InputError
from ddgm_dist.paths.atomic import partial, write_durably
from ddgm_dist.prior.restoring_unet import RestoringUNet, RestoringUNetSpec
from ddgm_dist.prior.unet import LocalUNet, UNet, UNetSpec

__all__ = [
    "FORMAT",
    "RESTORER_FORMAT",
    "Weights",
    "load_restorer_weights",
    "load_weights",
    "save_weights",
    "shipped_restorer_weights",
    "shipped_weights",
]

FORMAT, RESTORER_FORMAT = "ddgm_dist.unet", "ddgm_dist.restorer"
# Of the recipe and of what the network is given.
VERSIONS = {FORMAT: 1, RESTORER_FORMAT: 2}
_KINDS = {FORMAT: "denoiser", RESTORER_FORMAT: "restorer"}

Network = TypeVar("Network", bound=LocalUNet)


@dataclass(frozen=True)
class Weights(Generic[Network]):
    """A loaded network with its recipe.

    Attributes
    ----------
    net
        The network, float32, on the CPU.
    recipe
        The JSON recipe.
    digest
        SHA-256 of the safetensors file, hexadecimal.
    """

    net: Network
    recipe: dict[str, Any]
    digest: str

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Noise levels a denoiser was trained for."""
        low, high = self.recipe["sigma_range"]
        return float(low), float(high)


def shipped_weights() -> Path:
    """Path of the denoiser's weights that come with the package."""
    return _shipped("fibsem.safetensors")


def shipped_restorer_weights() -> Path:
    """Path of the restorer's weights that come with the package."""
    return _shipped("fibsem.restorer.safetensors")


def _shipped(name: str) -> Path:
    return Path(str(resources.files("ddgm_dist.prior") / "shipped" / name))


def save_weights(path: Path, net: LocalUNet, recipe: dict[str, Any]) -> str:
    """Write weights and recipe, so that there are always two that belong together.

    Both are written beside the old ones. Then the recipe is replaced, and last the weights: in between
    `load_weights` takes the new weights, which it knows by the digest in the recipe.

    Parameters
    ----------
    path
        ``NAME.safetensors``; the recipe goes to ``NAME.json``.
    net
        The network; stored in half precision.
    recipe
        Everything but the format, version, architecture and digest, which are added.

    Returns
    -------
    str
        SHA-256 of the weights, hexadecimal.

    Raises
    ------
    InputError
        The name does not end in ``.safetensors``.
    """
    if path.suffix != ".safetensors":
        raise InputError("weights", str(path), "the name must end in .safetensors")
    state = {k: v.detach().cpu().half().contiguous() for k, v in net.state_dict().items()}
    # One entry: safetensors writes several in random order, and the digest would be random too.
    name = RESTORER_FORMAT if isinstance(net, RestoringUNet) else FORMAT
    content = save_tensors(state, metadata={"format": f"{name}/{VERSIONS[name]}"})
    digest = hashlib.sha256(content).hexdigest()
    full = {"format": name, "version": VERSIONS[name], "architecture": asdict(net.spec)}
    text = json.dumps({**full, **recipe, "sha256": digest}, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    targets = {path.with_suffix(".json"): text.encode(), path: content}
    for target, data in targets.items():
        write_durably(partial(target), data)
    for target in targets:
        partial(target).replace(target)
    return digest


def load_weights(path: Path, argument: str = "denoiser") -> Weights[UNet]:
    """Read a denoiser's weights of our recipe; errors name the argument.

    Raises
    ------
    InputError
        The files are missing, damaged, or not of our recipe.
    """

    def network(recipe: Mapping[str, Any]) -> UNet:
        low, high = recipe["sigma_range"]
        if not 0 < float(low) < float(high):
            raise ValueError(f"its sigma_range is {recipe['sigma_range']}")
        return UNet(UNetSpec(**_architecture(recipe)))

    return _load(path, FORMAT, network, argument)


def load_restorer_weights(path: Path, argument: str = "restorer") -> Weights[RestoringUNet]:
    """Read a restorer's weights of our recipe; errors name the argument.

    Raises
    ------
    InputError
        As of `load_weights`.
    """

    def network(recipe: Mapping[str, Any]) -> RestoringUNet:
        return RestoringUNet(RestoringUNetSpec(**_architecture(recipe)))

    return _load(path, RESTORER_FORMAT, network, argument)


def _architecture(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _tuple(v) for k, v in recipe["architecture"].items()}


def _load(
    path: Path, format_name: str, network: Callable[[Mapping[str, Any]], Network], argument: str
) -> Weights[Network]:
    wanted = _KINDS[format_name]
    recipe_path = path.with_suffix(".json")
    if not path.exists():
        raise InputError(argument, str(path), "no such file", "give the path of a .safetensors")
    if not recipe_path.exists():
        raise InputError(
            argument,
            str(path),
            f"has no recipe {recipe_path.name} beside it: not weights that ddgm-dist train wrote",
            "copy the .json together with the .safetensors",
        )
    try:
        recipe = json.loads(recipe_path.read_text())
        kind = _KINDS.get(str(recipe.get("format"))) if isinstance(recipe, dict) else None
        if kind is None:
            raise ValueError(f"its format is not {format_name!r}")
        known = VERSIONS[str(recipe.get("format"))]
        if recipe.get("version") != known:
            raise ValueError(
                f"its version is {recipe.get('version')!r}, known is {known}: train it again, or use "
                "the version of ddgm_dist that trained it"
            )
        net = network(recipe) if kind == wanted else None
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(argument, str(recipe_path), f"is no recipe of ours: {reason}") from error
    if net is None:
        raise InputError(
            argument, str(path), f"holds the weights of a {kind}", f"give it as {kind}"
        )
    content = _content(path, recipe.get("sha256"))
    digest = hashlib.sha256(content).hexdigest()
    if digest != recipe.get("sha256"):
        raise InputError(
            argument,
            str(path),
            "is damaged or belongs to another recipe: its SHA-256 is "
            f"{digest[:12]}..., the recipe says {str(recipe.get('sha256'))[:12]}...",
            "copy both files again",
        )
    net.load_state_dict(_tensors(path, content, net, argument))
    return Weights(net.eval().requires_grad_(False), recipe, digest)


def _content(path: Path, digest: object) -> bytes:
    """The weights of a recipe, also those whose writer was killed before they had their name."""
    content = path.read_bytes()
    unnamed = partial(path)
    if hashlib.sha256(content).hexdigest() != digest and unnamed.exists():
        newer = unnamed.read_bytes()
        if hashlib.sha256(newer).hexdigest() == digest:
            with contextlib.suppress(OSError):  # readable is enough
                unnamed.replace(path)
            return newer
    return content


def _tensors(path: Path, content: bytes, net: LocalUNet, argument: str) -> dict[str, Tensor]:
    """The parameters in ``content``, float32, if they are those that ``net`` has."""
    try:
        tensors = {name: tensor.float() for name, tensor in load_tensors(content).items()}
    except SafetensorError as error:
        raise InputError(argument, str(path), f"is not a safetensors file: {error}") from error
    wanted = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise InputError(
                argument,
                str(path),
                f"does not fit its recipe's architecture: the shape of {name} is "
                f"{found.get(name, 'missing')}, the recipe's {wanted.get(name, 'has none')}",
            )
    return tensors


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
