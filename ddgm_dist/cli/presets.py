"""``presets``: what the presets are and what they cost."""

from __future__ import annotations

import json

import typer

from ddgm_dist.cli.options import AsJson

__all__ = ["presets"]

_NOTE = """\
Calls for one block of rows and one window, at most. An operator call is a projection and a
backprojection. Keys that are given beside a preset win: --preset fast --set N=5."""


def presets(as_json: AsJson = False) -> None:
    """Show the presets of --preset: what they set, and what they cost."""
    from ddgm_dist.planning.preset_costs import preset_costs, to_table
    from ddgm_dist.planning.presets import PRESETS

    costs = preset_costs()
    if as_json:
        found = {c.name: {"values": dict(PRESETS[c.name].values), **c.to_dict()} for c in costs}
        typer.echo(json.dumps(found, indent=2))
        return
    typer.echo(to_table(costs, purposes=True) + f"\n\n{_NOTE}\n")
    for name, preset in PRESETS.items():
        values = " ".join(f"{key}={value}" for key, value in preset.values.items())
        typer.echo(f"{name:<9}{values}")
