"""The table of commands and the global options."""

from __future__ import annotations

from typing import Annotated

import typer

from ddgm_dist.cli import demo as demonstrate
from ddgm_dist.cli import evaluate as assess
from ddgm_dist.cli import manifest
from ddgm_dist.cli import pyramid as derive
from ddgm_dist.cli import reconstruct as solve
from ddgm_dist.cli import status as inspect
from ddgm_dist.cli import submit as remote
from ddgm_dist.cli import tilts as data
from ddgm_dist.cli import train as learn
from ddgm_dist.cli import tune as settle
from ddgm_dist.cli.exit_codes import Settings
from ddgm_dist.cli.logs import LogLevel, set_up_logging

__all__ = ["create_app"]


def create_app() -> typer.Typer:
    """Build the application; nothing heavy is imported before a command runs."""
    app = typer.Typer(
        name="ddgm-dist",
        invoke_without_command=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_globals)
    app.command("demo")(demonstrate.demo)
    app.command("simulate")(data.simulate)
    app.command("ingest")(data.ingest)
    app.command("plan")(solve.plan)
    app.command("tune")(settle.tune)
    app.command("reconstruct")(solve.reconstruct)
    app.command("submit")(remote.submit)
    app.command("status")(inspect.status)
    app.command("evaluate")(assess.evaluate)
    app.command("pyramid")(derive.pyramid)
    app.command("train")(learn.train)
    app.add_typer(manifest.create(), name="manifest")
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        import ddgm_dist

        typer.echo(f"ddgm-dist {ddgm_dist.__version__}")
        raise typer.Exit


def _globals(
    context: typer.Context,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where an error was raised.")
    ] = False,
    log_level: Annotated[
        LogLevel, typer.Option(help="Log what is at least so grave, to standard error.")
    ] = "warning",
    log_json: Annotated[bool, typer.Option("--log-json", help="Log lines of JSON.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Limited-angle tomography with diffusion priors (DDGM), out of and into Zarr.

    Arguments come in the order input, output, options.

    A mistake in the input ends with one line and exit status 2, Ctrl-C with 130.
    """
    if isinstance(context.obj, Settings):
        context.obj.traceback = traceback
    context.call_on_close(set_up_logging(log_level, as_json=log_json))
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
