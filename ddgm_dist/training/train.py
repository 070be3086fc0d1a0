"""Train a denoiser on one's own images: reading them, resuming, and what is kept of it all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from ddgm_dist.core.box import Box
from ddgm_dist.core.units import format_duration
from ddgm_dist.errors import InputError
from ddgm_dist.paths.overlap import refuse_overlap
from ddgm_dist.prior.unet import UNet, UNetSpec
from ddgm_dist.prior.weights import load_weights, save_weights
from ddgm_dist.readers.volumes import open_volume
from ddgm_dist.training.curve import draw_curve
from ddgm_dist.training.patches import PLANES, PatchSampler, drawable_planes
from ddgm_dist.training.progress import show_progress
from ddgm_dist.training.resume import (
    check_checkpoint,
    differences,
    prepare_checkpoint,
    sidecar_of,
    training_request,
)
from ddgm_dist.training.training import TrainingHistory, TrainingOptions, train_network

__all__ = ["TrainingResult", "describe_data", "read_images", "train", "write_trained"]

Data = list[dict[str, Any]]

_BLOCK_BYTES = 2**27
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
        What the recipe says.
    """

    weights: Path
    digest: str
    recipe: dict[str, Any]

    def describe(self) -> str:
        """A few lines: what was trained, for how long, how good it became."""
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
            lines.append(f"validation loss by sigma: {bands}")
        return "\n".join(lines)


def train(
    images: Sequence[str | Path],
    weights: str | Path,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    validation: Sequence[str | Path] = (),
    planes: Sequence[str] = ("yx", "zx", "zy"),
    z_range: slice | None = None,
    patch: int = 128,
    batch: int = 8,
    learning_rate: float = 1e-3,
    seed: int = 0,
    augment: float = 0.0,
    attribution: str = "",
    spec: UNetSpec | None = None,
    resume: bool = True,
    overwrite: bool = False,
    device: str | None = None,
    progress: bool = True,
) -> TrainingResult:
    """Train a denoiser; interrupted and called again with the same arguments, it goes on.

    While it trains, ``NAME.ckpt`` beside the weights holds its state (and ``NAME.ckpt.json`` what
    it is of). Called again when it has finished, it returns what is there.

    Parameters
    ----------
    images, validation
        Paths that `ddgm_dist.open_volume` opens: folders of images, Zarr, MRC, ``.npy``. They are
        held in memory, integers of up to 16 bits as they are.
    weights
        ``NAME.safetensors`` to write.
    steps, minutes
        Budget; at least one. A resumed training may be given another budget.
    planes
        Planes to draw from, of ``yx``, ``zx`` and ``zy``. Planes in which a volume is smaller
        than a patch are left out.
    z_range
        Sections of ``images`` to use; ``validation`` is always used whole.
    patch, batch
        Edge of a patch in pixels; patches per step.
    learning_rate, seed
        See :class:`ddgm_dist.training.training.TrainingOptions`.
    augment
        Probability, from 0 to 1, that a patch is shown as another microscope might: at another
        pixel size, on a bent intensity scale, and (half as often) less sharp. What other data gain
        by it, data like ``images`` lose a little.
    attribution
        Where the images come from; kept in the recipe.
    spec
        Architecture; the default one when None.
    resume
        Go on from ``NAME.ckpt`` if it exists; False starts anew and removes it. A file of that name
        that no training has written is refused.
    overwrite
        Replace finished weights. Without it they are refused if anything asked for differs.
    device
        ``cpu`` or ``cuda``; a GPU where there is one when None.
    progress
        Show progress on stderr.

    Raises
    ------
    InputError
        If the images, the arguments or what lies at ``weights`` cannot be used.
    """
    target = Path(weights)
    if target.suffix != ".safetensors":
        raise InputError("weights", str(target), "the name must end in .safetensors")
    inputs = [("images", path) for path in images if not isinstance(images, str | Path)]
    inputs += [
        ("validation", path) for path in validation if not isinstance(validation, str | Path)
    ]
    refuse_overlap(target, "weights", inputs)
    _check_siblings(target, overwrite=overwrite, resume=resume)
    spec = spec or UNetSpec()
    if patch < spec.stride or patch % spec.stride:
        raise InputError("patch", patch, f"is not a multiple of the network's {spec.stride} pixels")
    options = TrainingOptions(
        steps=steps, minutes=minutes, batch=batch, learning_rate=learning_rate, seed=seed
    )
    if not 0 <= augment <= 1:
        raise InputError("augment", augment, "is a probability, from 0 to 1", "try 0.2")
    sampler, data = _sampler("images", images, planes, z_range, patch, seed)
    if augment:
        sampler = replace(sampler, zoom=augment, tone=augment, blur=augment / 2)
        data = [{**described, "augment": augment} for described in data]
    judge, judged = None, Data()
    if validation:
        judge, judged = _sampler("validation", validation, planes, None, patch, _VALIDATION_SEED)
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
        net, history = train_network(
            sampler,
            options,
            validation=judge,
            spec=spec,
            checkpoint=checkpoint,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            on_step=on_step,
        )
    result = write_trained(
        target, net, history, options, data, attribution, patch=patch, validation_description=judged
    )
    checkpoint.unlink()
    sidecar_of(checkpoint).unlink()
    return result


def write_trained(
    weights_path: str | Path,
    net: UNet,
    history: TrainingHistory,
    options: TrainingOptions,
    data_description: Data,
    attribution: str,
    *,
    patch: int = 128,
    validation_description: Sequence[dict[str, Any]] = (),
) -> TrainingResult:
    """Write weights, recipe and training curve of a trained network.

    Parameters
    ----------
    weights_path
        ``NAME.safetensors``.
    net, history, options, patch
        The network (the average that training keeps), its figures, how it was trained.
    data_description, validation_description
        As `describe_data` makes them.
    attribution
        Where the images come from.

    Raises
    ------
    InputError
        If the weights are not finite, even in half precision: training diverged.
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
    recipe = {
        "sigma_range": options.sigma_range,
        "normalisation": "each volume to zero mean and unit standard deviation",
        "attribution": attribution,
        **training_request(net.spec, options, patch, data, judged),
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
    return TrainingResult(target, digest, load_weights(target).recipe)


def read_images(path: str | Path, z_range: slice | None = None) -> NDArray[Any]:
    """A volume, or some of its sections, in memory: small integers as they are, else float32.

    Raises
    ------
    InputError
        If it cannot be opened, holds NaN or infinity, or ``z_range`` reaches beyond it.
    """
    source = open_volume(path)
    depth, height, width = source.shape
    first, last = _sections(path, z_range, depth)
    keep = source.dtype.kind in "iu" and source.dtype.itemsize <= 2
    values: NDArray[Any] = np.empty(
        (last - first, height, width), dtype=source.dtype.newbyteorder("=") if keep else np.float32
    )
    block = max(1, _BLOCK_BYTES // (4 * height * width))
    for start in range(first, last, block):
        stop = min(start + block, last)
        part = source.read(Box((start, 0, 0), (stop, height, width)))
        if not keep and not np.isfinite(part).all():
            raise InputError("images", str(path), "holds NaN or infinity")
        values[start - first : stop - first] = part
    return values


def describe_data(
    path: str | Path, sampler: PatchSampler, index: int, z_range: slice | None = None
) -> dict[str, Any]:
    """What a recipe says of one volume of a sampler; names and figures, no paths."""
    volume, (mean, std) = sampler.volumes[index], sampler.moments[index]
    return {
        "name": Path(path).resolve().name,
        "shape": list(volume.shape),
        "dtype": str(volume.dtype),
        "first_section": (z_range.start or 0) if z_range is not None else 0,
        "planes": list(drawable_planes(volume.shape, sampler.planes, sampler.size)),
        "mean": mean,
        "std": std,
    }


def _sampler(
    argument: str,
    paths: Sequence[str | Path],
    planes: Sequence[str],
    z_range: slice | None,
    patch: int,
    seed: int,
) -> tuple[PatchSampler, Data]:
    """Patches of the volumes at ``paths``, and their description."""
    if isinstance(paths, str | Path):
        raise InputError(argument, str(paths), "must be a list of paths", f"write [{paths!r}]")
    if not paths or not planes:
        raise InputError(argument if planes else "planes", "[]", "is empty", "give at least one")
    for plane in planes:
        if plane not in PLANES:
            raise InputError("planes", plane, f"is not one of {', '.join(PLANES)}")
    volumes = []
    for path in paths:
        volume = read_images(path, z_range)
        if not drawable_planes(volume.shape, planes, patch):
            raise InputError(
                argument,
                str(path),
                f"of {volume.shape} voxels (z, y, x) is smaller than a patch of {patch} pixels in "
                f"every plane of {', '.join(planes)}",
                "give larger images or a smaller patch",
            )
        volumes.append(volume)
    sampler = PatchSampler(volumes, size=patch, planes=tuple(planes), seed=seed)
    return sampler, [describe_data(p, sampler, i, z_range) for i, p in enumerate(paths)]


def _sections(path: str | Path, z_range: slice | None, depth: int) -> tuple[int, int]:
    if z_range is None:
        return 0, depth
    first = 0 if z_range.start is None else int(z_range.start)
    last = depth if z_range.stop is None else int(z_range.stop)
    if z_range.step not in (None, 1) or not 0 <= first < last <= depth:
        shown = f"{first}:{last}" + (f":{z_range.step}" if z_range.step else "")
        raise InputError("z_range", shown, f"is not a range within the {depth} sections of {path}")
    return first, last


@contextlib.contextmanager
def _withdrawn_if_refused(sidecar: Path, adopted: bool) -> Iterator[None]:
    """Take back what was written beside somebody's checkpoint that turns out to be none."""
    try:
        yield
    except InputError:
        if adopted:
            sidecar.unlink(missing_ok=True)
        raise


def _check_siblings(target: Path, *, overwrite: bool, resume: bool) -> None:
    """Refuse to replace files named as those that a training writes, but of no training."""
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
    """The result that lies at ``target``, if it is what is asked for."""
    try:
        found = load_weights(target)
        differing = differences(found.recipe, request) if resume else "and is to be trained afresh"
    except InputError as error:
        differing = f"and {error.why}"
    if differing:
        raise InputError(
            "weights",
            str(target),
            f"exists already, {differing}",
            "write to another name, or overwrite",
        )
    return TrainingResult(target, found.digest, found.recipe)
