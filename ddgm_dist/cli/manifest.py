"""``manifest``: write job manifests for Kubernetes and SLURM, and check them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddgm_dist.cli.lint import lint
from ddgm_dist.cli.options import store_argument
from ddgm_dist.cli.run_options import ProblemOptions, WorkerOptions, with_options
from ddgm_dist.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ddgm_dist.deploy.command import Run
    from ddgm_dist.planning.plan import Plan

__all__ = ["create"]

Site = Annotated[Path, typer.Option("--site", metavar="FILE", help="Site profile (YAML).")]
Tilts = Annotated[
    str,
    typer.Argument(
        metavar="TILTS.zarr", help="Tilt series as the cluster sees it: an absolute path or a URL."
    ),
]
Out = Annotated[
    str,
    typer.Argument(
        metavar="OUT.zarr",
        help="Volume to write, as the cluster sees it: an absolute path or a URL.",
    ),
]
PlanFile = Annotated[
    Path | None,
    typer.Option(
        "--plan",
        metavar="FILE",
        help="Output of `plan --workers N --json` from where the data are; no data are read here.",
    ),
]
Here = Annotated[
    Any,
    typer.Option(
        "--tilts-here",
        parser=store_argument,
        metavar="TILTS.zarr",
        help="The same tilt series as this machine sees it, for planning.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="File to write; standard output by default."
    ),
]


@dataclass(frozen=True)
class ManifestOptions:
    """Options that the commands which need a plan share."""

    plan: PlanFile = None
    tilts_here: Here = None
    output: Output = None


def create() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(
        name="manifest",
        help="Write what a cluster is given to run a reconstruction; check manifests.",
        no_args_is_help=True,
    )
    app.command("rayjob")(with_options(rayjob))
    app.command("raycluster")(with_options(raycluster))
    app.command("data-pod")(data_pod)
    app.command("slurm")(with_options(slurm))
    app.command("lint")(lint)
    return app


def rayjob(
    tilts: Tilts,
    out: Out,
    site: Site,
    problem: ProblemOptions,
    on: WorkerOptions,
    options: ManifestOptions,
    name: Annotated[str, typer.Option(help="Name of the RayJob.")] = "ddgm",
) -> None:
    """Write a RayJob for KubeRay: a cluster that is made for one run and removed at its end."""
    from ddgm_dist.deploy.planned import config_in_pods, kubernetes_resources
    from ddgm_dist.deploy.rayjob import render_rayjob
    from ddgm_dist.deploy.site import load_site

    cluster = load_site(site).on_kubernetes()
    run = _run(tilts, out, problem, config_in_pods(problem.config, cluster))
    found = _plan(tilts, problem, on, options, cluster.max_workers)
    text = render_rayjob(name, run, kubernetes_resources(found, cluster), cluster)
    _write(text, options, ("--site", site), ("--config", problem.config))


def raycluster(
    tilts: Tilts,
    site: Site,
    problem: ProblemOptions,
    on: WorkerOptions,
    options: ManifestOptions,
    name: Annotated[str, typer.Option(help="Name of the RayCluster.")] = "ddgm",
) -> None:
    """Write a RayCluster that stays, large enough for one run after the other like this one."""
    from ddgm_dist.deploy.planned import kubernetes_resources
    from ddgm_dist.deploy.pods import check_store
    from ddgm_dist.deploy.rayjob import render_raycluster
    from ddgm_dist.deploy.site import load_site

    cluster = load_site(site).on_kubernetes()
    check_store("tilts", tilts, cluster)
    found = _plan(tilts, problem, on, options, cluster.max_workers)
    text = render_raycluster(name, kubernetes_resources(found, cluster), cluster)
    _write(text, options, ("--site", site), ("--config", problem.config))


def data_pod(site: Site, output: Output = None) -> None:
    """Write a pod that sees the site's volumes: to copy data in and out, and to look."""
    from ddgm_dist.deploy.data_pod import render_data_pod
    from ddgm_dist.deploy.site import load_site

    text = render_data_pod(load_site(site).on_kubernetes())
    _write(text, ManifestOptions(output=output), ("--site", site))


def slurm(
    tilts: Tilts,
    out: Out,
    site: Site,
    problem: ProblemOptions,
    on: WorkerOptions,
    options: ManifestOptions,
    name: Annotated[str, typer.Option(help="Name of the job.")] = "ddgm",
    batch: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="More runs, TILTS.zarr OUT.zarr on a line: an array of jobs, planned as the first.",
        ),
    ] = None,
    max_parallel: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Jobs of the array that run at a time.")
    ] = None,
) -> None:
    """Write a batch script for SLURM: sbatch FILE."""
    from ddgm_dist.deploy.planned import slurm_resources
    from ddgm_dist.deploy.site import load_site
    from ddgm_dist.deploy.slurm import read_batch, render_sbatch

    profile = load_site(site)
    nodes = profile.on_slurm()
    # Its nodes share this file system.
    run = _run(tilts, out, problem, "" if problem.config is None else str(problem.config.resolve()))
    found = _plan(tilts, problem, on, options, nodes.max_workers)
    runs = run if batch is None else read_batch(batch, run)
    needs = slurm_resources(found, nodes)
    text = render_sbatch(runs, needs, profile, name=name, max_parallel=max_parallel)
    _write(text, options, ("--site", site), ("--config", problem.config), ("--batch", batch))


def _run(tilts: str, out: str, problem: ProblemOptions, config: str) -> Run:
    """The run of a job that finds its configuration at ``config``."""
    from ddgm_dist.deploy.command import Run, check_networks
    from ddgm_dist.planning.config import parse_config

    check_networks(parse_config(problem.keys()))
    return Run(tilts, out, config, tuple(problem.overrides or ()), problem.words())


def _plan(
    tilts: str, problem: ProblemOptions, on: WorkerOptions, options: ManifestOptions, most: int
) -> Plan | Mapping[str, Any]:
    """The plan of a file, or made here; a configuration that no run would take is refused first."""
    from ddgm_dist.deploy.planned import plan_run, read_plan
    from ddgm_dist.planning.config import parse_config

    keys = problem.keys()
    parse_config(keys)
    if options.plan is None:
        return plan_run(
            store_argument(str(options.tilts_here or tilts)),
            keys,
            workers=on.workers or most,
            memory=on.memory,
            verify_input=problem.verify_input,
        )
    for option, value in (("--workers", on.workers), ("--memory", on.memory)):
        if value is not None:
            raise InputError(
                option,
                value,
                f"is fixed by the plan in {options.plan}",
                f"give {option} to `ddgm-dist plan` instead",
            )
    return read_plan(options.plan)


def _write(text: str, options: ManifestOptions, *inputs: tuple[str, Path | None]) -> None:
    """Write a manifest, whole or not at all, and over none of the files that it is made from."""
    path = options.output
    if path is None:
        typer.echo(text, nl=False)
        return
    from ddgm_dist.paths.atomic import replace_file
    from ddgm_dist.paths.locate import place_of
    from ddgm_dist.paths.overlap import refuse_overlap

    given = [*inputs, ("--plan", options.plan)]
    places = [(name, place_of(file, name)) for name, file in given if file is not None]
    refuse_overlap(place_of(path, "--output"), "--output", places)
    if path.is_dir():
        raise InputError("--output", str(path), "is a folder", "name a file")
    replace_file(path, text.encode())
    typer.echo(f"written: {path}")
