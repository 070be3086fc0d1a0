"""``submit``: a reconstruction as a job of a running cluster."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddgm_dist.cli.exit_codes import INTERRUPTED
from ddgm_dist.cli.options import Overwrite, store
from ddgm_dist.cli.run_options import ProblemOptions, WorkerOptions
from ddgm_dist.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddgm_dist.remote.job_server import JobServer, Outcome

__all__ = ["submit"]

_HEADERS = "RAY_JOB_HEADERS"


def submit(
    problem: ProblemOptions,
    on: WorkerOptions,
    tilts: Annotated[
        Any, store("TILTS.zarr", "Tilt series: an absolute path that all nodes see, or a URL.")
    ] = None,
    out: Annotated[
        Any, store("OUT.zarr", "Volume to write: an absolute path that all nodes see, or a URL.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The cluster's dashboard: http://HOST:8265. Without it RAY_API_SERVER_ADDRESS, or "
            "RAY_ADDRESS if that is a URL, else http://127.0.0.1:8265.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    installed: Annotated[
        bool,
        typer.Option(
            "--installed",
            help="Use the package in the cluster's image instead of uploading this one.",
        ),
    ] = False,
    ignore_version_mismatch: Annotated[
        bool,
        typer.Option("--ignore-version-mismatch", help="Submit although package versions differ."),
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Do not wait for the job; print its name.")
    ] = False,
    attach: Annotated[
        str | None, typer.Option(metavar="JOB", help="Follow a job submitted before.")
    ] = None,
    cancel: Annotated[
        str | None, typer.Option(metavar="JOB", help="Stop a job; run again, it resumes.")
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:VALUE",
            help="Header for a gateway before the dashboard; may be repeated. Give secret ones "
            f"as JSON in {_HEADERS}.",
        ),
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(metavar="FILE.pem", help="Certificates to trust, for https.")
    ] = None,
) -> None:
    """Reconstruct as a job of a running Ray cluster, and follow it; Ctrl-C detaches.

    The exit status is the job's. The token is read from RAY_AUTH_TOKEN_PATH, with RAY_AUTH_MODE=token.
    """
    _check_one_thing(tilts, out, attach, cancel)
    keys = problem.keys()
    from ddgm_dist.remote.job_server import JobServer
    from ddgm_dist.remote.submit import submit as run

    server = JobServer(address, headers=_headers(header or []), ca_file=ca_file)
    if cancel is not None:
        typer.echo(f"{cancel}: {server.cancel(cancel).status.lower()}", err=True)
        return
    if attach is None:
        job = run(
            server,
            tilts,
            out,
            keys,
            workers=on.workers,
            memory=on.memory,
            overwrite=overwrite,
            verify_input=problem.verify_input,
            installed=installed,
            ignore_version_mismatch=ignore_version_mismatch,
        )
        if detach:
            typer.echo(job)
            return
        typer.echo(f"job {job} (Ctrl-C detaches, the job continues)", err=True)
    else:
        job = attach
    raise typer.Exit(_follow(server, job))


def _follow(server: JobServer, job: str) -> int:
    """Show what a job prints until it ends; returns its exit status."""

    def write(text: str) -> None:
        typer.echo(text, nl=False)

    try:
        outcome = server.follow(job, write)
    except KeyboardInterrupt:
        command = f"ddgm-dist submit --address {shlex.quote(server.address)}"
        typer.echo(
            f"\ndetached; the job continues. Follow it again: {command} --attach {job}"
            f"\nstop it: {command} --cancel {job}",
            err=True,
        )
        return INTERRUPTED
    typer.echo(f"job {job}: {_ending(outcome)}", err=True)
    return outcome.exit_status


def _ending(outcome: Outcome) -> str:
    if outcome.status == "FAILED":
        # Ray repeats the end of the log there, which has been shown.
        why = outcome.message.partition(", last available logs")[0].partition("\n")[0]
        return f"failed with exit status {outcome.exit_status} ({why})"
    return outcome.status.lower()


def _check_one_thing(tilts: Any, out: Any, attach: str | None, cancel: str | None) -> None:
    """Refuse a command line that asks for more or less than one of submit, attach and cancel."""
    if attach is not None and cancel is not None:
        raise InputError("--cancel", cancel, "cannot be combined with --attach", "give one of them")
    for option, job in (("--attach", attach), ("--cancel", cancel)):
        if job is not None and tilts is not None:
            raise InputError(option, job, "is for a job that was submitted", "leave out TILTS.zarr")
    if attach is None and cancel is None and (tilts is None or out is None):
        raise InputError(
            "TILTS.zarr OUT.zarr",
            "",
            "are missing",
            "name both, or a job with --attach JOB or --cancel JOB",
        )


def _headers(given: Sequence[str]) -> dict[str, str]:
    """Headers from the environment and the command line, which takes precedence."""
    text = os.environ.get(_HEADERS) or "{}"
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    # The value is not shown: it is a secret.
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise InputError(_HEADERS, "...", "is not a JSON object of texts")
    headers: dict[str, str] = found
    for line in given:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise InputError("--header", name, "is not NAME:VALUE")
        headers[name.strip()] = value.strip()
    return headers
