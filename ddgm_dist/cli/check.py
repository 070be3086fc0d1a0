"""``check``: how well a tilt series is aligned, by itself."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ddgm_dist.cli.exit_codes import NOT_EXPLAINED
from ddgm_dist.cli.options import AsJson, TiltsIn

__all__ = ["check"]


def check(
    tilts: TiltsIn,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write estimated shifts and offsets into the store.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with status 4 if something looks wrong.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Estimate shifts, tilt axis and angle offset from the series itself; change nothing.

    The estimates are coarse: about a degree, and a pixel of images of 320 columns.
    """
    from ddgm_dist.alignment.check import check as run

    found = run(tilts, apply=apply, progress=True)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
    else:
        axis = "not clear" if found.axis_deg is None else f"{found.axis_deg:.1f} degrees"
        rms = "not clear" if found.shift_rms_px is None else f"{found.shift_rms_px:.2f} pixels rms"
        typer.echo(f"tilt axis       {axis} from the vertical")
        typer.echo(f"shifts          {rms} beyond what the series states")
        typer.echo(f"neighbours      correlation {found.alike:.2f}")
        for line in found.findings:
            typer.echo(f"warning: {line}")
        if found.is_good:
            typer.echo("nothing looks wrong")
        if apply:
            typer.echo(f"{tilts}: shifts and angles are written")
    if strict and not found.is_good:
        raise typer.Exit(NOT_EXPLAINED)
