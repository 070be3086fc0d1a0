"""``train``: a denoiser or a restorer for the user's own images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ddgm_dist.cli.options import Overwrite, Quiet, Seed, store, store_argument
from ddgm_dist.cli.values import parse_slice

__all__ = ["train"]


def train(
    images: Annotated[list[Any], store("IMAGES", "Folders of images, or volumes.")],
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS.safetensors", help="Weights to write.")
    ],
    kind: Annotated[
        Literal["denoiser", "restorer", "both"],
        typer.Option(
            help="A denoiser, a restorer (it knows the missing wedge), or both; then the restorer's "
            "weights are NAME.restorer.safetensors, and each has the whole budget."
        ),
    ] = "denoiser",
    steps: Annotated[int | None, typer.Option(min=1, help="Steps to train for.")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Minutes to train for; give this or --steps.")
    ] = None,
    validation: Annotated[
        list[Any] | None,
        typer.Option(
            parser=store_argument,
            metavar="IMAGES",
            help="Images for validation only; may be repeated.",
        ),
    ] = None,
    planes: Annotated[
        str, typer.Option(help="Planes of the volumes to draw from; yx for single images.")
    ] = "yx,zx,zy",
    z_range: Annotated[
        str | None,
        typer.Option(metavar="A:B", help="Sections (z) of IMAGES to train on; all by default."),
    ] = None,
    patch: Annotated[
        int | None,
        typer.Option(metavar="PX", min=16, help="Edge of a patch; 128, for a restorer 224."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Patches per step.")] = 8,
    learning_rate: Annotated[
        float | None,
        typer.Option(min=0, help="Peak learning rate; 1e-3, or 3e-4 from trained weights."),
    ] = None,
    seed: Seed = 0,
    augment: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Probability that a patch is altered as by another microscope; 0.2 is mild, 0.3 the "
            "default of a restorer.",
        ),
    ] = None,
    attribution: Annotated[
        str, typer.Option(help="Where the images come from; kept with the weights.")
    ] = "",
    begin_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="WEIGHTS",
            help="Trained weights to begin from: fibsem, or NAME.safetensors. A few minutes will do "
            "then for one's own images.",
        ),
    ] = None,
    no_resume: Annotated[
        bool,
        typer.Option("--no-resume", help="Start from the beginning, even after an interruption."),
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train a network on images. Run again after an interruption, it resumes where it stopped."""
    sections = None if z_range is None else parse_slice(z_range, "--z-range")
    from ddgm_dist.training.train import train as run

    result = run(
        images,
        weights,
        kind=kind,
        steps=steps,
        minutes=minutes,
        validation=validation or [],
        planes=tuple(plane.strip() for plane in planes.split(",")),
        z_range=sections,
        patch=patch,
        batch=batch,
        learning_rate=learning_rate,
        seed=seed,
        augment=augment,
        attribution=attribution,
        begin_from=begin_from,
        resume=not no_resume,
        overwrite=overwrite,
        progress=not quiet,
    )
    typer.echo(result.describe())
