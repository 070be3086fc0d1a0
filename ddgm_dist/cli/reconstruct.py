"""``plan`` and ``reconstruct``: the same problem, thought through and computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddgm_dist.cli.options import (
    ConfigFile,
    EngineName,
    MaskBad,
    Memory,
    NoDespike,
    Overrides,
    Overwrite,
    Thickness,
    TiltsIn,
    Workers,
    store_argument,
)
from ddgm_dist.cli.values import parse_memory
from ddgm_dist.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["plan", "problem_config", "reconstruct"]


def plan(
    tilts: TiltsIn,
    config: ConfigFile = None,
    overrides: Overrides = None,
    thickness: Thickness = None,
    impute_nonfinite: MaskBad = False,
    no_despike: NoDespike = False,
    workers: Workers = None,
    memory: Memory = None,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Try the steps for some seconds; tell the time it takes."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Show what a reconstruction would take: tiles, memory, traffic, denoiser calls, time."""
    resolved = problem_config(config, overrides or [], thickness, impute_nonfinite, no_despike)
    limit = None if memory is None else parse_memory(memory)
    from ddgm_dist.runs.reconstruct import plan as run
    from ddgm_dist.tile.host import allocate_as_workers

    if calibrate:
        allocate_as_workers()  # as workers do
    found = run(tilts, resolved, workers=workers, memory=limit, calibrate=calibrate)
    typer.echo(json.dumps(found.to_dict(), indent=2) if as_json else found.describe())


def reconstruct(
    tilts: TiltsIn,
    out: Annotated[
        Any,
        typer.Argument(
            parser=store_argument,
            metavar="OUT.zarr",
            help="Volume to write (OME-Zarr): a path or a URL.",
            show_default=False,
        ),
    ],
    config: ConfigFile = None,
    overrides: Overrides = None,
    engine: Annotated[EngineName, typer.Option(help="In this process, or on Ray.")] = "ray",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Ray cluster to join (auto finds one); by default Ray starts on this machine.",
            show_default=False,
        ),
    ] = None,
    workers: Workers = None,
    memory: Memory = None,
    thickness: Thickness = None,
    impute_nonfinite: MaskBad = False,
    no_despike: NoDespike = False,
    overwrite: Overwrite = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Reconstruct a volume; run again on the same output, it goes on where it stopped."""
    if engine == "local":
        for option, value in (("--address", address), ("--workers", workers)):
            if value is not None:
                raise InputError(
                    option, value, "is for --engine ray", "leave it out or use --engine ray"
                )
    resolved = problem_config(config, overrides or [], thickness, impute_nonfinite, no_despike)
    limit = None if memory is None else parse_memory(memory)
    from ddgm_dist.paths.locate import locate, place_of
    from ddgm_dist.paths.overlap import refuse_overlap
    from ddgm_dist.runs.reconstruct import reconstruct as run
    from ddgm_dist.tile.host import allocate_as_workers

    if config is not None:
        given = [("--config", place_of(config, "--config"))]
        refuse_overlap(locate(out, "OUT.zarr"), "OUT.zarr", given)

    if engine == "local":
        allocate_as_workers()
    result = run(
        tilts,
        out,
        resolved,
        engine,
        address=address,
        workers=workers,
        memory=limit,
        overwrite=overwrite,
        progress=not quiet,
    )
    typer.echo(result.describe())


def problem_config(
    path: Path | None,
    overrides: Sequence[str],
    thickness: int | None,
    impute_nonfinite: bool,
    no_despike: bool,
) -> dict[str, Any]:
    """The configuration; options that fix the answer are keys of it, and win."""
    from ddgm_dist.cli.config import read_config

    config = read_config(path, overrides)
    if thickness is not None:
        config["thickness"] = thickness
    if impute_nonfinite:
        config["impute_nonfinite"] = True
    if no_despike:
        config["despike"] = False
    return config
