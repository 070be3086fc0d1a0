"""Kinds of networks that can be trained: where each is written, its defaults and its task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ddgm_dist.errors import InputError
from ddgm_dist.prior.network_cache import SHIPPED
from ddgm_dist.prior.restoring_unet import RestoringUNetSpec
from ddgm_dist.prior.unet import UNetSpec
from ddgm_dist.prior.weights import (
    Weights,
    load_restorer_weights,
    load_weights,
    shipped_restorer_weights,
    shipped_weights,
)
from ddgm_dist.training.denoising import DenoisingTask
from ddgm_dist.training.patches import PatchSampler
from ddgm_dist.training.restoring import RestoringTask

__all__ = ["Kind", "Settings", "settings_of"]

Kind = Literal["denoiser", "restorer", "both"]
Spec = UNetSpec | RestoringUNetSpec

_SPECS: dict[str, type[UNetSpec] | type[RestoringUNetSpec]] = {
    "denoiser": UNetSpec,
    "restorer": RestoringUNetSpec,
}
# Edge of a patch, and probability of changes as by another microscope.
_PATCH = {"denoiser": 128, "restorer": 224}
_AUGMENT = {"denoiser": 0.0, "restorer": 0.3}
# Share of a budget over which the learning rate falls.
_ANNEAL = {"denoiser": 1.0, "restorer": 0.35}
# Volumes may be thinner than a restorer's images, and are mirrored then.
_LEAST_EXTENT = 64


@dataclass(frozen=True)
class Settings:
    """Settings of the training of one network.

    Attributes
    ----------
    target
        ``NAME.safetensors`` to write.
    spec
        Architecture.
    patch
        Edge of a patch, or width of a restorer's images, pixels.
    augment
        Probability that a patch is changed as by another microscope.
    anneal
        Share of the budget over which the learning rate falls.
    begin
        Weights to begin from; random ones when None.
    """

    target: Path
    spec: Spec
    patch: int
    augment: float
    anneal: float = 1.0
    begin: Weights[Any] | None = None

    @property
    def extent(self) -> int:
        """Pixels that a plane must have in both directions to be drawn from."""
        if isinstance(self.spec, RestoringUNetSpec):
            return min(self.patch, _LEAST_EXTENT)
        return self.patch

    def task(
        self, sampler: PatchSampler, judge: PatchSampler | None
    ) -> DenoisingTask | RestoringTask:
        """The task of the network, on volumes to train with and to validate with."""
        if isinstance(self.spec, RestoringUNetSpec):
            return RestoringTask(sampler, judge, self.spec, self.patch)
        return DenoisingTask(sampler, judge, self.spec)


def settings_of(
    kind: Kind,
    weights: Path,
    *,
    spec: Spec | None = None,
    patch: int | None = None,
    augment: float | None = None,
    begin_from: str | Path | None = None,
) -> list[Settings]:
    """Settings of each network of a kind, checked; what is None has its default.

    Raises
    ------
    InputError
        A value cannot be used.
    """
    if weights.suffix != ".safetensors":
        raise InputError("weights", str(weights), "the name must end in .safetensors")
    if kind not in (*_SPECS, "both"):
        raise InputError("kind", kind, f"is none of {', '.join(_SPECS)}, both")
    if augment is not None and not 0 <= augment <= 1:
        raise InputError("augment", augment, "is a probability, from 0 to 1", "try 0.2")
    if kind == "both":
        beside = weights.with_suffix(".restorer.safetensors")
        targets = {"denoiser": weights, "restorer": beside}
    else:
        targets = {kind: weights}
    found = []
    for one, target in targets.items():
        begin = None if begin_from is None else _weights(one, str(begin_from), kind)
        if begin is not None and spec is not None and spec != begin.net.spec:
            why = f"is another architecture than that of {begin_from}"
            raise InputError("spec", str(spec), why, "leave it out")
        usual = _SPECS[one]() if begin is None else begin.net.spec
        own = usual if spec is None else spec
        if kind == "both" and spec is not None:
            why = "is of one network, and kind both trains two"
            raise InputError("spec", type(own).__name__, why, "train one after the other")
        if not isinstance(own, _SPECS[one]):
            why = f"is no architecture of a {one}, which is a {_SPECS[one].__name__}"
            raise InputError("spec", type(own).__name__, why, "give spec and kind of one network")
        edge = _PATCH[one] if patch is None else patch
        if edge < own.stride or edge % own.stride:
            why = f"is not a multiple of the network's {own.stride} pixels"
            raise InputError("patch", edge, f"{why} (the {one}'s)" if kind == "both" else why)
        variety = _AUGMENT[one] if augment is None else augment
        found.append(Settings(target, own, edge, variety, _ANNEAL[one], begin))
    return found


def _weights(network: str, name: str, kind: Kind) -> Weights[Any]:
    """Weights to begin from: those that come with the package, or a file's."""
    if name != SHIPPED and kind == "both":
        why = "is of one network, and kind both trains two"
        raise InputError("begin_from", name, why, f"write {SHIPPED}, or train one after the other")
    if name != SHIPPED and Path(name).suffix != ".safetensors":
        raise InputError("begin_from", name, f"is neither {SHIPPED} nor a .safetensors")
    if network == "restorer":
        return load_restorer_weights(
            shipped_restorer_weights() if name == SHIPPED else Path(name), "begin_from"
        )
    return load_weights(shipped_weights() if name == SHIPPED else Path(name), "begin_from")
