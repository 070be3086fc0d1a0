"""``pyramid``: what is made from a finished result."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ddgm_dist.cli.options import Address, Overwrite, Scheduler, store

__all__ = ["pyramid"]


def pyramid(
    volume: Annotated[Any, store("OUT.zarr", "A finished result: a path or a URL.")],
    levels: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Coarser levels to add; by default until y and x are below 257 voxels.",
        ),
    ] = None,
    scheduler: Scheduler = "threads",
    address: Address = None,
    overwrite: Overwrite = False,
) -> None:
    """Add coarser levels to a result, for viewers."""
    from ddgm_dist.evaluation.pyramid import build_pyramid

    made = build_pyramid(
        volume, levels=levels, scheduler=scheduler, address=address, overwrite=overwrite
    )
    for level in made:
        shape = " x ".join(str(n) for n in level.shape)
        factor = " x ".join(str(n) for n in level.factor)
        typer.echo(f"level {level.name}  {shape} voxels (z, y, x), each of {factor}")
