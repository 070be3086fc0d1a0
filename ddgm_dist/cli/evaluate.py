"""``evaluate``: a volume against a reference."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ddgm_dist.cli.options import Address, AsJson, Scheduler, store
from ddgm_dist.cli.simulate import volume_argument
from ddgm_dist.cli.values import parse_slice

__all__ = ["evaluate"]


def evaluate(
    volume: Annotated[Any, store("OUT.zarr", "Volume to judge: a path or a URL.")],
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE",
            help="The truth: Zarr, MRC, .npy, folder of images, or phantom:Z,Y,X; may be wider in x.",
        ),
    ],
    region: Annotated[
        str,
        typer.Option(help="inner (away from the edges in x), all, or z0:z1,y0:y1,x0:x1 in voxels."),
    ] = "inner",
    rows: Annotated[
        str | None,
        typer.Option(
            metavar="A:B",
            help="Rows (y) of REFERENCE that are the volume's, if it has more: as given to simulate.",
        ),
    ] = None,
    scheduler: Scheduler = "threads",
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Print MSE, normalised MSE, PSNR and SSIM over a region."""
    part = None if rows is None else parse_slice(rows, "--rows")
    from ddgm_dist.evaluation.evaluate import evaluate as run

    truth = volume_argument(reference, "REFERENCE")
    found = run(volume, truth, inner=region, rows=part, scheduler=scheduler, address=address)
    scores = found.to_dict()
    if as_json:
        typer.echo(json.dumps(scores, indent=2))
        return
    scores["psnr"] = found.psnr  # infinite for equal volumes, which JSON cannot say
    width = max(len(name) for name in scores)
    for name, value in scores.items():
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        typer.echo(f"{name:<{width}}  {shown}")
