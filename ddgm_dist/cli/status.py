"""``status``: how far a run is, whether what it wrote is sound, and what its workers did when."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddgm_dist.cli.options import store

if TYPE_CHECKING:
    from ddgm_dist.inspection.run_status import Status

__all__ = ["status"]

DAMAGED, UNFINISHED = 2, 3
_SHOWN = 20


def status(
    out: Annotated[Any, store("OUT.zarr", "Output of a run: a path or a URL.")],
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON, for machines.")] = False,
    watch: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.5, help="Again and again, until it ends."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--verify", help="Read all finished tiles and compare their digests.")
    ] = False,
    timeline: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw what each worker did when.")
    ] = None,
) -> None:
    """Show how far a run is, from its output alone; nothing is written there.

    Exit status 0 when it is complete or running, 3 when it was interrupted, 2 when it is no result
    or is damaged.
    """
    from ddgm_dist.inspection.status import status as read_status

    found = read_status(out)
    wrong = None
    if check:
        from ddgm_dist.inspection.verify import verify

        wrong = verify(out)
    _show(found, wrong, as_json)
    while watch is not None and found.state == "running":
        time.sleep(watch)
        found = read_status(out)
        if not as_json:
            typer.echo("")
        _show(found, None, as_json)
    if timeline is not None:
        from ddgm_dist.inspection.timeline import draw_timeline

        draw_timeline(out, timeline)
    if wrong:
        raise typer.Exit(DAMAGED)
    if found.state == "interrupted":
        raise typer.Exit(UNFINISHED)


def _show(found: Status, wrong: dict[str, str] | None, as_json: bool) -> None:
    if as_json:
        more = {} if wrong is None else {"wrong": wrong}
        typer.echo(json.dumps(found.to_dict() | more))
        return
    typer.echo(found.describe())
    if wrong is None:
        return
    if not wrong:
        typer.echo(f"{'verified':<12}  {found.tiles_done} tiles are what was written")
        return
    typer.echo(f"{'wrong':<12}  {len(wrong)}, which cannot be trusted:", err=True)
    for name, why in list(wrong.items())[:_SHOWN]:
        typer.echo(f"  {name}  {why}", err=True)
    if len(wrong) > _SHOWN:
        typer.echo(f"  and {len(wrong) - _SHOWN} more (--json lists all)", err=True)
