"""``plan`` and ``reconstruct``: what a reconstruction would take, and the reconstruction."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ddgm_dist.cli.exit_codes import NOT_EXPLAINED
from ddgm_dist.cli.options import Address, AsJson, EngineName, Overwrite, Quiet, TiltsIn, store
from ddgm_dist.cli.run_options import ProblemOptions, WorkerOptions
from ddgm_dist.errors import InputError

__all__ = ["plan", "reconstruct"]


def plan(
    tilts: TiltsIn,
    problem: ProblemOptions,
    on: WorkerOptions,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate", help="Time the steps for some seconds and estimate the run time."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a reconstruction would take: tiles, memory, traffic, denoiser calls, time."""
    keys = problem.keys()
    from ddgm_dist.runs.plan import plan as run
    from ddgm_dist.tile.host import allocate_as_workers

    if calibrate:
        allocate_as_workers()  # as workers do
    found = run(
        tilts,
        keys,
        workers=on.workers,
        memory=on.memory,
        calibrate=calibrate,
        verify_input=problem.verify_input,
        progress=True,
    )
    typer.echo(json.dumps(found.to_dict(), indent=2) if as_json else found.describe())


def reconstruct(
    tilts: TiltsIn,
    out: Annotated[Any, store("OUT.zarr", "Volume to write (OME-Zarr): a path or a URL.")],
    problem: ProblemOptions,
    on: WorkerOptions,
    engine: Annotated[
        EngineName,
        typer.Option(
            help="Compute in this process (local) or on Ray; auto takes Ray where --workers, --address "
            "or RAY_ADDRESS ask for it, or the work would take longer than about a minute here."
        ),
    ] = "auto",
    address: Address = None,
    overwrite: Overwrite = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="End with exit status 4 if the volume does not explain the data; it is kept.",
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Reconstruct a volume. Run again on the same output, it resumes where it stopped."""
    if engine == "local":
        for option, value in (("--address", address), ("--workers", on.workers)):
            if value is not None:
                raise InputError(
                    option, value, "is for --engine ray", "leave it out or use --engine ray"
                )
    keys = problem.keys()
    from ddgm_dist.paths.locate import locate, place_of
    from ddgm_dist.paths.overlap import refuse_overlap
    from ddgm_dist.runs.reconstruct import reconstruct as run
    from ddgm_dist.tile.host import allocate_as_workers

    if problem.config is not None:
        given = [("--config", place_of(problem.config, "--config"))]
        refuse_overlap(locate(out, "OUT.zarr"), "OUT.zarr", given)
    if engine != "ray":
        allocate_as_workers()
    result = run(
        tilts,
        out,
        keys,
        engine,
        address=address,
        workers=on.workers,
        memory=on.memory,
        overwrite=overwrite,
        verify_input=problem.verify_input,
        progress=not quiet,
    )
    typer.echo(result.describe())
    if strict and result.fit is not None and not result.fit.explained:
        raise typer.Exit(NOT_EXPLAINED)
