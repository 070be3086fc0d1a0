"""``status``: how far a run is."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["status"]

INTERRUPTED, DAMAGED = 3, 2


def status(
    out: Annotated[
        Path, typer.Argument(metavar="OUT.zarr", help="Output of a run.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    watch: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.5, help="Again and again, until it ends."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--verify", help="Read all finished tiles and compare their digests.")
    ] = False,
    timeline: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png", help="Draw what each worker did when.", show_default=False
        ),
    ] = None,
) -> None:
    """Show how far a run is, from its output alone; exit status 3 if it was interrupted."""
    from ddgm_dist.status import read_status, verify

    found = read_status(out)
    typer.echo(json.dumps(found.to_dict()) if as_json else found.describe())
    while watch is not None and found.state == "running":
        time.sleep(watch)
        found = read_status(out)
        typer.echo(json.dumps(found.to_dict()) if as_json else f"\n{found.describe()}")
    if timeline is not None:
        from ddgm_dist.timeline import draw_timeline

        draw_timeline(out, timeline)
    damaged = verify(out) if check else []
    if damaged:
        shown = ", ".join(damaged[:5]) + (", ..." if len(damaged) > 5 else "")
        typer.echo(f"damaged       {len(damaged)} tiles: {shown}", err=True)
        raise typer.Exit(DAMAGED)
    if found.state == "interrupted":
        raise typer.Exit(INTERRUPTED)
