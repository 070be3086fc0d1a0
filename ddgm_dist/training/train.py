"""Train a network on one's own images: read them, train or resume, write weights and recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from ddgm_dist.errors import InputError
from ddgm_dist.paths.locate import locate, place_of
from ddgm_dist.paths.overlap import refuse_overlap
from ddgm_dist.paths.place import Place
from ddgm_dist.prior.restoring_unet import RestoringUNetSpec
from ddgm_dist.prior.unet import UNetSpec
from ddgm_dist.training.images import Volumes, check_planes, read_volumes, sections_of
from ddgm_dist.training.kinds import Kind, settings_of
from ddgm_dist.training.loop import TrainingOptions
from ddgm_dist.training.prepared import prepare
from ddgm_dist.training.progress import show_progress
from ddgm_dist.training.result import TrainingResult
from ddgm_dist.training.resume import check_siblings

__all__ = ["train"]


def train(
    images: Sequence[str | Path],
    weights: str | Path,
    *,
    kind: Kind = "denoiser",
    steps: int | None = None,
    minutes: float | None = None,
    validation: Sequence[str | Path] = (),
    planes: Sequence[str] = ("yx", "zx", "zy"),
    z_range: slice | tuple[int | None, int | None] | None = None,
    patch: int | None = None,
    batch: int = 8,
    learning_rate: float | None = None,
    seed: int = 0,
    augment: float | None = None,
    attribution: str = "",
    spec: UNetSpec | RestoringUNetSpec | None = None,
    begin_from: str | Path | None = None,
    resume: bool = True,
    overwrite: bool = False,
    device: str | None = None,
    progress: bool = True,
) -> TrainingResult:
    """Train a denoiser, a restorer or both.

    Interrupted and called again with the same arguments, it resumes. While it trains, ``NAME.ckpt``
    beside the weights holds its state, and ``NAME.ckpt.json`` its request. Called again after it has
    finished, it returns the finished weights.

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
        neighbouring rows, so along them the images must be as finely spaced as within. ``both``: first
        the denoiser, then the restorer, whose weights are ``NAME.restorer.safetensors``. Each has the
        whole budget. What can be refused is refused before the first begins.
    steps, minutes
        Budget; at least one. A resumed training may have another budget.
    planes
        Planes to draw from, of ``yx``, ``zx`` and ``zy``. Planes in which a volume is smaller
        than a patch are left out.
    z_range
        Sections of ``images`` to use, a pair (start, stop) or a slice; ``validation`` is always used
        whole.
    patch, batch
        Edge of a patch in pixels (128; for a restorer the width of its images, 224), a multiple of the
        network's stride. Patches per step; a restorer's steps have about as many pixels as ``batch``
        images of 64 rows.
    learning_rate
        Peak rate; 1e-3 when None, or 3e-4 from trained weights.
    seed
        See :class:`ddgm_dist.training.loop.TrainingOptions`.
    augment
        Probability, from 0 to 1, that a patch is changed as by another microscope. The changes are
        another pixel size, a bent intensity scale and (half as often) blur. They help with other
        data, and cost a little with data like ``images``. By default 0, for a restorer 0.3.
    attribution
        Source of the images; kept in the recipe.
    spec
        Architecture; the default one when None, as it must be for ``both``.
    begin_from
        Trained weights to begin from, ``fibsem`` or ``NAME.safetensors``; for one's own images a few
        minutes will do then. Random ones when None.
    resume
        Resume from ``NAME.ckpt`` if it exists; False starts anew and removes it. A file of that name
        that no training has written is refused.
    overwrite
        Replace finished weights. Without it, finished weights of another request are refused.
    device
        ``cpu`` or ``cuda``; when None, a GPU if there is one.
    progress
        Show progress on stderr.

    Returns
    -------
    TrainingResult
        Weights, digest and recipe. Those of ``both`` are of the denoiser, and its attribute ``restorer``
        holds those of the restorer.

    Raises
    ------
    InputError
        If the images, the arguments or existing files at ``weights`` cannot be used.
    """
    chosen = settings_of(
        kind, Path(weights), spec=spec, patch=patch, augment=augment, begin_from=begin_from
    )
    if learning_rate is None:
        learning_rate = 1e-3 if begin_from is None else 3e-4
    options = TrainingOptions(
        steps=steps, minutes=minutes, batch=batch, learning_rate=learning_rate, seed=seed
    )
    sections = sections_of(z_range)
    check_planes(planes)
    shown, held_back = _located("images", images), _located("validation", validation)
    inputs = [("images", place) for place in shown] + [("validation", p) for p in held_back]
    for each in chosen:
        refuse_overlap(place_of(each.target, "weights"), "weights", inputs)
        check_siblings(each.target, overwrite=overwrite, resume=resume)
    volumes = read_volumes("images", shown, sections)
    judges = read_volumes("validation", held_back) if held_back else Volumes()
    trainings = [
        prepare(each, options, volumes, judges, planes, resume=resume, overwrite=overwrite)
        for each in chosen
    ]
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    results = []
    for training in trainings:
        result = training.finished
        if result is None:
            console = Console(stderr=True)
            with show_progress(batch, console, enabled=progress) as on_step:
                result = training.run(attribution, device, on_step)
        results.append(result)
    first, *others = results
    return replace(first, restorer=others[0]) if others else first


def _located(argument: str, paths: Sequence[str | Path]) -> list[Place]:
    if isinstance(paths, str | Path):
        raise InputError(argument, str(paths), "must be a list of paths", f"write [{paths!r}]")
    return [locate(path, argument) for path in paths]
