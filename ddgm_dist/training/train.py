"""Train a network on one's own images: read them, train or resume, write weights and recipe."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from ddgm_dist.core.units import format_duration
from ddgm_dist.errors import InputError
from ddgm_dist.paths.locate import locate, place_of
from ddgm_dist.paths.overlap import refuse_overlap
from ddgm_dist.paths.place import Place
from ddgm_dist.prior.likeness import Likeness, measure_likeness
from ddgm_dist.prior.restoring_unet import RestoringUNet, RestoringUNetSpec
from ddgm_dist.prior.unet import LocalUNet, UNetSpec
from ddgm_dist.prior.weights import load_restorer_weights, load_weights, save_weights
from ddgm_dist.training.acquisitions import TRAINED_FOR
from ddgm_dist.training.curve import draw_curve
from ddgm_dist.training.denoising import DenoisingTask
from ddgm_dist.training.images import Data, make_sampler
from ddgm_dist.training.loop import TrainingHistory, TrainingOptions, run_training
from ddgm_dist.training.patches import PatchSampler
from ddgm_dist.training.progress import show_progress
from ddgm_dist.training.restoring import RestoringTask
from ddgm_dist.training.resume import (
    check_checkpoint,
    differences,
    prepare_checkpoint,
    sidecar_of,
    training_request,
)

__all__ = ["Kind", "TrainingResult", "train", "write_trained"]

Kind = Literal["denoiser", "restorer"]

# Edge of a patch, and probability of changes as by another microscope.
_PATCH: dict[Kind, int] = {"denoiser": 128, "restorer": 224}
_AUGMENT: dict[Kind, float] = {"denoiser": 0.0, "restorer": 0.3}
# Share of a budget over which the learning rate falls.
_ANNEAL: dict[Kind, float] = {"denoiser": 1.0, "restorer": 0.35}
# Volumes may be thinner than a restorer's images, and are mirrored then.
_LEAST_EXTENT = 64

# Validation patches do not follow the seed: runs with different seeds are judged alike.
_VALIDATION_SEED = 1


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
    """

    weights: Path
    digest: str
    recipe: dict[str, Any]

    def describe(self) -> str:
        """A few lines: the network, the time of training, the validation loss."""
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
        return "\n".join(lines)


def train(
    images: Sequence[str | Path],
    weights: str | Path,
    *,
    kind: Kind = "denoiser",
    steps: int | None = None,
    minutes: float | None = None,
    validation: Sequence[str | Path] = (),
    planes: Sequence[str] = ("yx", "zx", "zy"),
    z_range: slice | None = None,
    patch: int | None = None,
    batch: int = 8,
    learning_rate: float = 1e-3,
    seed: int = 0,
    augment: float | None = None,
    attribution: str = "",
    spec: UNetSpec | RestoringUNetSpec | None = None,
    resume: bool = True,
    overwrite: bool = False,
    device: str | None = None,
    progress: bool = True,
) -> TrainingResult:
    """Train a denoiser or a restorer. Interrupted and called again with the same arguments, it resumes.

    While it trains, ``NAME.ckpt`` beside the weights holds its state, and ``NAME.ckpt.json`` its
    request. Called again after it has finished, it returns the finished weights.

    Parameters
    ----------
    images, validation
        Paths that `ddgm_dist.open_volume` opens: folders of images, Zarr, MRC, ``.npy``. They are
        held in memory, integers of up to 16 bits as they are.
    weights
        ``NAME.safetensors`` to write.
    kind
        ``denoiser``: removes white noise of any level from patches. ``restorer``: restores rows from
        regularized inverses of simulated tilt series of many geometries and noise levels. It sees
        neighbouring rows, so along them the images must be as finely spaced as within.
    steps, minutes
        Budget; at least one. A resumed training may have another budget.
    planes
        Planes to draw from, of ``yx``, ``zx`` and ``zy``. Planes in which a volume is smaller
        than a patch are left out.
    z_range
        Sections of ``images`` to use; ``validation`` is always used whole.
    patch, batch
        Edge of a patch in pixels (128; for a restorer the width of its images, 224), a multiple of the
        network's stride. Patches per step; a restorer's steps have about as many pixels as ``batch``
        images of 64 rows.
    learning_rate, seed
        See :class:`ddgm_dist.training.loop.TrainingOptions`.
    augment
        Probability, from 0 to 1, that a patch is changed as by another microscope. The changes are
        another pixel size, a bent intensity scale and (half as often) blur. They help with other
        data, and cost a little with data like ``images``. By default 0, for a restorer 0.3.
    attribution
        Source of the images; kept in the recipe.
    spec
        Architecture; the default one when None.
    resume
        Resume from ``NAME.ckpt`` if it exists; False starts anew and removes it. A file of that name
        that no training has written is refused.
    overwrite
        Replace finished weights. Without it, finished weights of another request are refused.
    device
        ``cpu`` or ``cuda``; when None, a GPU if there is one.
    progress
        Show progress on stderr.

    Raises
    ------
    InputError
        If the images, the arguments or existing files at ``weights`` cannot be used.
    """
    target = Path(weights)
    if target.suffix != ".safetensors":
        raise InputError("weights", str(target), "the name must end in .safetensors")
    shown, held_back = _located("images", images), _located("validation", validation)
    inputs = [("images", place) for place in shown] + [("validation", p) for p in held_back]
    refuse_overlap(place_of(target, "weights"), "weights", inputs)
    _check_siblings(target, overwrite=overwrite, resume=resume)
    if kind not in _PATCH:
        raise InputError("kind", kind, f"is none of {', '.join(_PATCH)}")
    patch = _PATCH[kind] if patch is None else patch
    augment = _AUGMENT[kind] if augment is None else augment
    spec = spec or (UNetSpec() if kind == "denoiser" else RestoringUNetSpec())
    if patch < spec.stride or patch % spec.stride:
        raise InputError("patch", patch, f"is not a multiple of the network's {spec.stride} pixels")
    options = TrainingOptions(
        steps=steps,
        minutes=minutes,
        batch=batch,
        learning_rate=learning_rate,
        seed=seed,
        anneal=_ANNEAL[kind],
    )
    if not 0 <= augment <= 1:
        raise InputError("augment", augment, "is a probability, from 0 to 1", "try 0.2")
    size = patch if kind == "denoiser" else min(patch, _LEAST_EXTENT)
    sampler, data = make_sampler("images", shown, planes, z_range, size, seed)
    if augment:
        sampler = replace(sampler, zoom=augment, tone=augment, blur=augment / 2)
        data = [{**described, "augment": augment} for described in data]
    judge, judged = None, Data()
    if validation:
        judge, judged = make_sampler("validation", held_back, planes, None, size, _VALIDATION_SEED)
    request = training_request(spec, options, patch, data, judged)
    if target.exists() and not overwrite:
        return _finished(target, request, resume)
    checkpoint = target.with_suffix(".ckpt")
    adopted = checkpoint.exists() and not sidecar_of(checkpoint).exists()
    prepare_checkpoint(checkpoint, request, resume=resume)
    with (
        _withdrawn_if_refused(sidecar_of(checkpoint), adopted),
        show_progress(batch, Console(stderr=True), enabled=progress) as on_step,
    ):
        net, history = _trained(
            spec,
            sampler,
            judge,
            patch,
            options,
            checkpoint=checkpoint,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            on_step=on_step,
        )
    result = write_trained(
        target,
        net,
        history,
        options,
        data,
        attribution,
        patch=patch,
        validation_description=judged,
        likeness=measure_likeness(sampler.parts()),
    )
    checkpoint.unlink()
    sidecar_of(checkpoint).unlink()
    return result


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

    Raises
    ------
    InputError
        If the weights are not finite in half precision, for then training diverged.
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
    recipe = {
        **({"trained_for": TRAINED_FOR} if restores else {"sigma_range": options.sigma_range}),
        "normalisation": "each volume to zero mean and unit standard deviation",
        "attribution": attribution,
        **training_request(net.spec, options, patch, data, judged),
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
    return TrainingResult(target, digest, _recipe_of(target, restores)[0])


def _recipe_of(target: Path, restores: bool) -> tuple[dict[str, Any], str]:
    """Recipe and digest of weights."""
    if restores:
        restorer = load_restorer_weights(target)
        return restorer.recipe, restorer.digest
    denoiser = load_weights(target)
    return denoiser.recipe, denoiser.digest


def _trained(
    spec: UNetSpec | RestoringUNetSpec,
    sampler: PatchSampler,
    judge: PatchSampler | None,
    patch: int,
    options: TrainingOptions,
    **others: Any,
) -> tuple[LocalUNet, TrainingHistory]:
    if isinstance(spec, RestoringUNetSpec):
        return run_training(RestoringTask(sampler, judge, spec, patch), options, **others)
    return run_training(DenoisingTask(sampler, judge, spec), options, **others)


def _located(argument: str, paths: Sequence[str | Path]) -> list[Place]:
    if isinstance(paths, str | Path):
        raise InputError(argument, str(paths), "must be a list of paths", f"write [{paths!r}]")
    return [locate(path, argument) for path in paths]


@contextlib.contextmanager
def _withdrawn_if_refused(sidecar: Path, adopted: bool) -> Iterator[None]:
    """Remove the request again if the file that it was written beside is no checkpoint."""
    try:
        yield
    except InputError:
        if adopted:
            sidecar.unlink(missing_ok=True)
        raise


def _check_siblings(target: Path, *, overwrite: bool, resume: bool) -> None:
    """Refuse to replace files with the names of a training's files that no training has written."""
    if overwrite or not target.exists():
        check_checkpoint(target.with_suffix(".ckpt"), resume=resume)
    beside = [target.with_suffix(suffix) for suffix in (".json", ".png")]
    there = next((file for file in beside if file.exists()), None)
    if there is not None and not target.exists() and not overwrite:
        raise InputError(
            "weights",
            str(target),
            f"{there.name} beside it would be replaced, and is not of weights that are there",
            "choose another name, or overwrite it",
        )


def _finished(target: Path, request: Mapping[str, Any], resume: bool) -> TrainingResult:
    """The finished result at ``target``; refused if its request differs."""
    try:
        restores = "neighbours" in request["architecture"]
        recipe, digest = _recipe_of(target, restores)
        differing = differences(recipe, request) if resume else "and is to be trained afresh"
    except InputError as error:
        differing = f"and {error.why}"
    if differing:
        raise InputError(
            "weights",
            str(target),
            f"exists already, {differing}",
            "write to another name, or overwrite",
        )
    return TrainingResult(target, digest, recipe)
