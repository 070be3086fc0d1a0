"""The request of a training, kept beside its checkpoint: may it be resumed or replaced?"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ddgm_dist.errors import InputError
from ddgm_dist.paths.atomic import replace_file
from ddgm_dist.prior.unet import LocalUNetSpec
from ddgm_dist.training.loop import TrainingOptions

__all__ = [
    "check_checkpoint",
    "check_siblings",
    "differences",
    "prepare_checkpoint",
    "sidecar_of",
    "training_request",
    "withdrawn_if_refused",
]

BUDGET = ("options.steps", "options.minutes")


def training_request(
    spec: LocalUNetSpec,
    options: TrainingOptions,
    patch: int,
    data: Sequence[Mapping[str, Any]],
    validation_data: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """All inputs of a training as JSON values; two trainings with equal requests are the same."""
    given = asdict(options)
    if given["anneal"] == 1.0:  # as former requests have it, which do not name it
        del given["anneal"]
    request = {
        "architecture": asdict(spec),
        "data": list(data),
        "validation_data": list(validation_data),
        "options": {**given, "patch": patch},
    }
    as_read: dict[str, Any] = json.loads(json.dumps(request))
    return as_read


def differences(
    found: Mapping[str, Any], wanted: Mapping[str, Any], ignoring: Sequence[str] = ()
) -> str:
    """Differences of ``found``, any mapping, from a request, as text; empty if there are none."""
    words = []
    for key, value in wanted.items():
        theirs = found.get(key)
        if not isinstance(value, dict) or not isinstance(theirs, dict):
            if theirs != value and key not in ignoring:
                words.append(f"{key} differs")
            continue
        words += [
            f"{name} is {theirs.get(name)}, not {value[name]}"
            for name in value
            if theirs.get(name) != value[name] and f"{key}.{name}" not in ignoring
        ]
    return ", ".join(words)


def sidecar_of(checkpoint: Path) -> Path:
    """The file beside a checkpoint that holds the request of its training."""
    return checkpoint.with_name(checkpoint.name + ".json")


def check_siblings(target: Path, *, overwrite: bool, resume: bool) -> None:
    """Refuse to replace files with the names of a training's files that no training has written.

    Parameters
    ----------
    target
        ``NAME.safetensors``.
    overwrite, resume
        Replace finished weights; resume from a checkpoint.

    Raises
    ------
    InputError
        If there is such a file; the message names it.
    """
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


def check_checkpoint(
    checkpoint: Path, request: Mapping[str, Any] | None = None, *, resume: bool
) -> None:
    """Refuse to replace or delete files at a checkpoint's path that no training has written.

    Each training writes its request beside its checkpoint, which identifies both.

    Parameters
    ----------
    checkpoint
        ``NAME.ckpt``.
    request
        Request of the training, if it is known. A training may be resumed with another budget, but
        with no other difference. A checkpoint without a request is accepted.
    resume
        True if the checkpoint is to be resumed. Then one without a request is allowed: reading it
        shows whether it is a checkpoint.

    Raises
    ------
    InputError
        If no training has written one of the files; the message names it. If the checkpoint is to be
        resumed and is of another training.
    """
    sidecar = sidecar_of(checkpoint)
    foreign = sidecar if sidecar.exists() and not _of_a_training(sidecar) else None
    if foreign is None and not resume and checkpoint.exists() and not sidecar.exists():
        foreign = checkpoint
    if foreign is not None:
        raise InputError(
            "weights",
            str(checkpoint.with_suffix(".safetensors")),
            f"{foreign.name} beside it would be replaced, and no training is known to have written it",
            "choose another name, or move that file away",
        )
    if request is not None and resume and checkpoint.exists() and sidecar.exists():
        try:
            differing = differences(json.loads(sidecar.read_text()), request, BUDGET)
        except (ValueError, AttributeError):
            differing = f"{sidecar.name} cannot be read"
        if differing:
            raise InputError(
                "checkpoint",
                str(checkpoint),
                f"is of another training: {differing}",
                "repeat its arguments, start afresh, or write other weights",
            )


def _of_a_training(sidecar: Path) -> bool:
    try:
        found = json.loads(sidecar.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.keys() >= {"architecture", "data", "options"}


def prepare_checkpoint(checkpoint: Path, request: Mapping[str, Any], *, resume: bool) -> None:
    """Prepare the path of a checkpoint for a training.

    Parameters
    ----------
    checkpoint
        Removed if it exists, a training has written it and ``resume`` is false.
    request
        Written beside the checkpoint.

    Raises
    ------
    InputError
        As of `check_checkpoint`.
    """
    check_checkpoint(checkpoint, request, resume=resume)
    if not resume:
        checkpoint.unlink(missing_ok=True)
    replace_file(sidecar_of(checkpoint), json.dumps(request, indent=1).encode())


@contextlib.contextmanager
def withdrawn_if_refused(sidecar: Path, adopted: bool) -> Iterator[None]:
    """Remove the request again if the file that it was written beside is no checkpoint."""
    try:
        yield
    except InputError:
        if adopted:
            sidecar.unlink(missing_ok=True)
        raise
