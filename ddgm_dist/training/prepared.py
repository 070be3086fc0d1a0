"""A training that can begin: its images are read, and all that would be refused was refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ddgm_dist.errors import InputError
from ddgm_dist.prior.likeness import measure_likeness
from ddgm_dist.prior.restoring_unet import RestoringUNetSpec
from ddgm_dist.training.images import Data, Volumes, make_sampler
from ddgm_dist.training.kinds import Settings
from ddgm_dist.training.loop import Task, TrainingHistory, TrainingOptions, run_training
from ddgm_dist.training.patches import PatchSampler
from ddgm_dist.training.restoring import RestoringTask
from ddgm_dist.training.result import TrainingResult, read_recipe, write_trained
from ddgm_dist.training.resume import (
    check_checkpoint,
    differences,
    prepare_checkpoint,
    sidecar_of,
    training_request,
    withdrawn_if_refused,
)

__all__ = ["Training", "prepare"]

# Validation patches do not follow the seed: runs with different seeds are judged alike.
_VALIDATION_SEED = 1


@dataclass(frozen=True)
class Training:
    """A training that can begin.

    Attributes
    ----------
    settings, options
        Settings of the network; budget, rates and seed.
    sampler, judge
        Volumes to train with, and to validate with; None for none.
    data, judged
        Their descriptions.
    request
        All inputs as JSON values.
    resume
        Resume from the checkpoint if there is one.
    finished
        The result, where it has finished before.
    """

    settings: Settings
    options: TrainingOptions
    sampler: PatchSampler
    judge: PatchSampler | None
    data: Data
    judged: Data
    request: dict[str, Any]
    resume: bool
    finished: TrainingResult | None = None

    def run(
        self,
        attribution: str,
        device: str,
        on_step: Callable[[TrainingHistory, float], None],
    ) -> TrainingResult:
        """Train from the checkpoint on, if there is one; write the result and remove the checkpoint.

        Parameters
        ----------
        attribution
            Source of the images; kept in the recipe.
        device
            Device of the network.
        on_step
            As for :func:`ddgm_dist.training.loop.run_training`.
        """
        target = self.settings.target
        checkpoint = target.with_suffix(".ckpt")
        sidecar = sidecar_of(checkpoint)
        adopted = checkpoint.exists() and not sidecar.exists()
        prepare_checkpoint(checkpoint, self.request, resume=self.resume)
        chosen = self.settings.task(self.sampler, self.judge)
        task: Task[Any] = chosen
        with withdrawn_if_refused(sidecar, adopted):
            net, history = run_training(
                task,
                self.options,
                begin=None if self.settings.begin is None else self.settings.begin.net.state_dict(),
                checkpoint=checkpoint,
                device=device,
                on_step=on_step,
            )
        result = write_trained(
            target,
            net,
            history,
            self.options,
            self.data,
            self._attributed(attribution),
            patch=self.settings.patch,
            validation_description=self.judged,
            likeness=measure_likeness(self.sampler.parts()),
            trained_for=chosen.trained_for if isinstance(chosen, RestoringTask) else None,
            begun_from=None if self.settings.begin is None else self.settings.begin.digest,
        )
        checkpoint.unlink()
        sidecar.unlink()
        return result

    def _attributed(self, attribution: str) -> str:
        """The source of the images, and of those that the weights were trained on before."""
        before = (
            None if self.settings.begin is None else self.settings.begin.recipe.get("attribution")
        )
        if not before:
            return attribution
        return f"{attribution}; begun from weights of: {before}".removeprefix("; ")


def prepare(
    settings: Settings,
    options: TrainingOptions,
    images: Volumes,
    validation: Volumes,
    planes: Sequence[str],
    *,
    resume: bool,
    overwrite: bool,
) -> Training:
    """Prepare the training of one network.

    Parameters
    ----------
    settings, options
        Settings of the network; budget, rates and seed.
    images, validation
        Volumes to train with and to validate with.
    planes
        Planes to draw from.
    resume, overwrite
        Resume from a checkpoint; replace finished weights.

    Raises
    ------
    InputError
        The images are too small; or finished weights or a checkpoint are of another request.
    """
    size, target = settings.extent, settings.target
    sampler, data = make_sampler("images", images, planes, size, options.seed)
    if augment := settings.augment:
        sampler = replace(sampler, zoom=augment, tone=augment, blur=augment / 2)
        data = [{**described, "augment": augment} for described in data]
    judge, judged = None, Data()
    if validation.places:
        judge, judged = make_sampler("validation", validation, planes, size, _VALIDATION_SEED)
    options = replace(options, anneal=settings.anneal)
    request = training_request(settings.spec, options, settings.patch, data, judged)
    request["begun_from"] = None if settings.begin is None else settings.begin.digest
    finished = None
    if target.exists() and not overwrite:
        finished = _finished(settings, request, resume)
    else:
        check_checkpoint(target.with_suffix(".ckpt"), request, resume=resume)
    return Training(settings, options, sampler, judge, data, judged, request, resume, finished)


def _finished(settings: Settings, request: dict[str, Any], resume: bool) -> TrainingResult:
    """The finished result; refused if its request differs."""
    target = settings.target
    try:
        restores = isinstance(settings.spec, RestoringUNetSpec)
        recipe, digest = read_recipe(target, restores=restores)
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
