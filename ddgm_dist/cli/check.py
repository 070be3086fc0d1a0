"""``check``: how well a tilt series is aligned, by itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ddgm_dist.cli.exit_codes import NOT_EXPLAINED
from ddgm_dist.cli.options import AsJson, TiltsIn

if TYPE_CHECKING:
    from ddgm_dist.alignment.judge import Check

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

    The estimates are coarse: about a degree, and a pixel of images of 256 columns.
    """
    from ddgm_dist.alignment.check import check as run

    found = run(tilts, apply=apply, progress=True)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
    else:
        for name, text in _estimates(found):
            typer.echo(f"{name:<15} {text}")
        for line in found.findings:
            typer.echo(f"warning: {line}")
        if found.is_good:
            typer.echo(
                "nothing looks wrong" if found.shifts_px else "nothing could be seen to be wrong"
            )
        if apply:
            done = "shifts and angles are written" if found.applied else "nothing is written"
            typer.echo(f"{tilts}: {done}")
    if strict and not found.is_good:
        raise typer.Exit(NOT_EXPLAINED)


def _estimates(found: Check) -> list[tuple[str, str]]:
    """Lines that say what was estimated."""
    unclear = "not clear"
    axis, rms, offset = found.axis_deg, found.shift_rms_px, found.axis_offset_px
    more, alike = found.angle_offset_deg, found.alike
    return [
        ("tilt axis", unclear if axis is None else f"{axis:.1f} degrees from the vertical"),
        ("axis offset", unclear if offset is None else f"{offset:+.1f} pixels from the middle"),
        (
            "shifts",
            unclear if rms is None else f"{rms:.2f} pixels rms beyond what the series states",
        ),
        ("angle offset", "none seen" if more is None else f"{more:+.1f} degrees"),
        ("neighbours", "not compared" if alike is None else f"correlation {alike:.2f}"),
    ]
