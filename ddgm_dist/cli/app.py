"""The table of commands and the global options."""

from __future__ import annotations

from typing import Annotated

import typer

from ddgm_dist.cli import manifest
from ddgm_dist.cli.check import check
from ddgm_dist.cli.demo import demo
from ddgm_dist.cli.evaluate import evaluate
from ddgm_dist.cli.exit_codes import Settings
from ddgm_dist.cli.ingest import ingest
from ddgm_dist.cli.logs import LogLevel, set_up_logging
from ddgm_dist.cli.presets import presets
from ddgm_dist.cli.pyramid import pyramid
from ddgm_dist.cli.reconstruct import plan, reconstruct
from ddgm_dist.cli.run_options import with_options
from ddgm_dist.cli.simulate import simulate
from ddgm_dist.cli.status import status
from ddgm_dist.cli.submit import submit
from ddgm_dist.cli.train import train
from ddgm_dist.cli.tune import tune

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
    commands = (
        demo, simulate, ingest, check, plan, tune, reconstruct, submit, status, evaluate, pyramid, train,
        presets,
    )  # fmt: skip
    for command in commands:
        app.command(command.__name__)(with_options(command))
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
        bool, typer.Option("--traceback", help="Show the traceback of an error.")
    ] = False,
    log_level: Annotated[
        LogLevel, typer.Option(help="Log level; records go to standard error.")
    ] = "warning",
    log_json: Annotated[bool, typer.Option("--log-json", help="Log lines of JSON.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Limited-angle tomography with diffusion priors (DDGM), from Zarr to Zarr.

    Arguments come in the order input, output, options.

    A mistake in the input ends with one line and exit status 2, Ctrl-C with 130.
    """
    if isinstance(context.obj, Settings):
        context.obj.traceback = traceback
        context.obj.command = context.invoked_subcommand
    context.call_on_close(set_up_logging(log_level, as_json=log_json))
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
