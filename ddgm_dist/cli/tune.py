"""``tune``: settings for data without ground truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ddgm_dist.cli.config import read_yaml
from ddgm_dist.cli.options import AsJson, Overwrite, Quiet, Seed, TiltsIn
from ddgm_dist.cli.run_options import ProblemOptions
from ddgm_dist.errors import InputError

__all__ = ["tune"]


def tune(
    tilts: TiltsIn,
    problem: ProblemOptions,
    grid: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="YAML file with values to try for each key; about 20 settings by default.",
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES", help="Try only as many settings as this time allows; all by default."
        ),
    ] = None,
    blocks: Annotated[int, typer.Option(min=1, help="Blocks of the field to try settings on.")] = 4,
    rows: Annotated[int, typer.Option(min=1, help="Rows of a block.")] = 2,
    folds: Annotated[
        int, typer.Option(min=2, metavar="F", help="Hold out every F-th tilt, and the outermost.")
    ] = 4,
    seed: Seed = 0,
    out: Annotated[
        Path, typer.Option(metavar="CONFIG.yaml", help="Configuration to write.")
    ] = Path("tuned.yaml"),
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Choose settings without ground truth: those that predict held-out tilts best.

    At the end it writes a configuration for reconstruct --config.
    """
    keys = problem.keys()
    values = None if grid is None else read_yaml(grid, "--grid")
    from ddgm_dist.paths.locate import place_of
    from ddgm_dist.paths.overlap import refuse_overlap
    from ddgm_dist.tile.host import allocate_as_workers
    from ddgm_dist.tuning.tune import tune as run

    if grid is not None and not values:
        raise InputError("--grid", str(grid), "is empty", "give values, such as K: [25, 100]")
    given = (("--config", problem.config), ("--grid", grid))
    inputs = [(name, place_of(path, name)) for name, path in given if path is not None]
    refuse_overlap(place_of(out, "--out"), "--out", inputs)
    allocate_as_workers()
    found = run(
        tilts,
        keys,
        grid=values,
        blocks=blocks,
        rows=rows,
        folds=folds,
        budget=budget,
        seed=seed,
        verify_input=problem.verify_input,
        out=out,
        overwrite=overwrite,
        progress=not quiet,
        report=lambda line: typer.echo(line, err=True),
    )
    typer.echo(json.dumps(found.to_dict(), indent=2) if as_json else found.describe())
    if not as_json:
        typer.echo(f"written: {out}")
