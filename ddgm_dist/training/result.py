"""The result of a training on disk: weights, recipe and training curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ddgm_dist.core.units import format_duration
from ddgm_dist.errors import InputError
from ddgm_dist.prior.likeness import Likeness
from ddgm_dist.prior.restoring_unet import RestoringUNet
from ddgm_dist.prior.unet import LocalUNet
from ddgm_dist.prior.weights import load_restorer_weights, load_weights, save_weights
from ddgm_dist.training.curve import draw_curve
from ddgm_dist.training.images import Data
from ddgm_dist.training.loop import TrainingHistory, TrainingOptions
from ddgm_dist.training.resume import training_request

__all__ = ["TrainingResult", "read_recipe", "write_trained"]


@dataclass(frozen=True)
class TrainingResult:
    """Trained weights on disk.

    Attributes
    ----------
    weights
        ``NAME.safetensors``; beside it lie the recipe ``NAME.json`` and the curve ``NAME.png``.
    digest
        SHA-256 of the weights, hexadecimal.
    recipe
        Contents of the recipe.
    restorer
        The restorer's result, where both networks were trained; the rest is the denoiser's then.
    """

    weights: Path
    digest: str
    recipe: dict[str, Any]
    restorer: TrainingResult | None = None

    def describe(self) -> str:
        """A few lines of each network: its size, the time of training, the validation loss."""
        figures = self.recipe["training"]
        lines = [
            f"{self.weights}: {figures['parameters']:,} parameters, {figures['steps']} steps in "
            f"{format_duration(figures['seconds'])}, sha256 {self.digest[:12]}...",
            f"beside it {self.weights.with_suffix('.json').name} (recipe) and "
            f"{self.weights.with_suffix('.png').name} (training curve)",
        ]
        if figures["validation_loss"]:
            _, last = figures["validation_loss"][-1]
            bands = ", ".join(f"{band}: {loss:.3g}" for band, loss in last.items())
            what = "loss by sigma" if "sigma_range" in self.recipe else "error"
            lines.append(f"validation {what}: {bands}")
        if self.restorer is not None:
            lines.append(self.restorer.describe())
        return "\n".join(lines)


def write_trained(
    weights_path: str | Path,
    net: LocalUNet,
    history: TrainingHistory,
    options: TrainingOptions,
    data_description: Data,
    attribution: str,
    *,
    patch: int = 128,
    validation_description: Sequence[dict[str, Any]] = (),
    likeness: Likeness | None = None,
    trained_for: Mapping[str, tuple[float, float]] | None = None,
    begun_from: str | None = None,
) -> TrainingResult:
    """Write weights, recipe and training curve of a trained network.

    Parameters
    ----------
    weights_path
        ``NAME.safetensors``.
    net, history, options, patch
        The network (the average that training keeps), its history and options, edge of a patch.
    data_description, validation_description
        Results of `describe_data`.
    likeness
        Statistics of the images, by which a run is warned of data that are unlike them.
    attribution
        Source of the images.
    trained_for
        Ranges of the series that a restorer was trained for, as its task says them; None of a denoiser.
    begun_from
        SHA-256 of the weights that the training began from; None of random ones.

    Raises
    ------
    InputError
        If the weights are not finite in half precision, for then training diverged. If
        ``trained_for`` is missing for a restorer, or given for a denoiser.
    """
    target = Path(weights_path)
    if not all(bool(torch.isfinite(p.half()).all()) for p in net.parameters()):
        raise InputError(
            "learning_rate",
            options.learning_rate,
            f"training diverged: after {history.step} steps the weights are not finite",
            "start afresh with a smaller one",
        )
    data, judged = list(data_description), list(validation_description)
    restores = isinstance(net, RestoringUNet)
    if restores == (trained_for is None):
        why = "is needed of a restorer" if restores else "is of a restorer, and this is none"
        raise InputError("trained_for", trained_for, why, "give what its task says")
    recipe = {
        **({"sigma_range": options.sigma_range} if not restores else {"trained_for": trained_for}),
        "normalisation": "each volume to zero mean and unit standard deviation",
        "attribution": attribution,
        **training_request(net.spec, options, patch, data, judged),
        **({} if begun_from is None else {"begun_from": begun_from}),
        "statistics": None if likeness is None else likeness.to_dict(),
        "training": {
            "parameters": sum(p.numel() for p in net.parameters()),
            "steps": history.step,
            "seconds": round(history.seconds, 1),
            "torch": torch.__version__,
            "train_loss": history.train,
            "validation_loss": history.validation,
        },
    }
    digest = save_weights(target, net, recipe)
    draw_curve(target.with_suffix(".png"), history)
    return TrainingResult(target, digest, read_recipe(target, restores=restores)[0])


def read_recipe(target: Path, *, restores: bool) -> tuple[dict[str, Any], str]:
    """Recipe and digest of the weights of a restorer or a denoiser."""
    if restores:
        restorer = load_restorer_weights(target)
        return restorer.recipe, restorer.digest
    denoiser = load_weights(target)
    return denoiser.recipe, denoiser.digest
