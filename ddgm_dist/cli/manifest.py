"""``manifest``: what a cluster is given to run a reconstruction, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddgm_dist.cli.options import (
    ConfigFile,
    MaskBad,
    Memory,
    NoDespike,
    Overrides,
    Thickness,
    Workers,
    store_argument,
)
from ddgm_dist.cli.reconstruct import problem_config
from ddgm_dist.cli.values import parse_memory

if TYPE_CHECKING:
    from ddgm_dist.deploy.command import Run
    from ddgm_dist.planning.plan import Plan

__all__ = ["create"]

Site = Annotated[
    Path, typer.Option("--site", metavar="FILE", help="Site profile (YAML).", show_default=False)
]
Tilts = Annotated[
    str,
    typer.Argument(
        metavar="TILTS.zarr",
        help="Tilt series as the cluster sees it: an absolute path or a URL.",
        show_default=False,
    ),
]
Out = Annotated[
    str,
    typer.Argument(
        metavar="OUT.zarr",
        help="Volume to write, as the cluster sees it: an absolute path or a URL.",
        show_default=False,
    ),
]
PlanFile = Annotated[
    Path | None,
    typer.Option(
        "--plan",
        metavar="FILE",
        help="What `plan --workers N --json` printed where the data are; no data are read here.",
        show_default=False,
    ),
]
Here = Annotated[
    Any,
    typer.Option(
        "--tilts-here",
        parser=store_argument,
        metavar="TILTS.zarr",
        help="The same tilt series as this machine sees it, if elsewhere; for planning.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write here; to the screen by default.",
        show_default=False,
    ),
]


def create() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(
        name="manifest",
        help="Write what a cluster is given to run a reconstruction; check manifests.",
        no_args_is_help=True,
    )
    app.command("rayjob")(rayjob)
    app.command("raycluster")(raycluster)
    app.command("data-pod")(data_pod)
    app.command("slurm")(slurm)
    app.command("lint")(lint)
    return app


def rayjob(
    tilts: Tilts,
    out: Out,
    site: Site,
    name: Annotated[str, typer.Option(help="Of the RayJob.")] = "ddgm",
    plan: PlanFile = None,
    tilts_here: Here = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    thickness: Thickness = None,
    impute_nonfinite: MaskBad = False,
    no_despike: NoDespike = False,
    workers: Workers = None,
    memory: Memory = None,
    output: Output = None,
) -> None:
    """Write a RayJob for KubeRay: a cluster for one run, which is gone at its end."""
    from ddgm_dist.deploy.command import Run
    from ddgm_dist.deploy.planned import config_in_pods, kubernetes_resources
    from ddgm_dist.deploy.rayjob import render_rayjob
    from ddgm_dist.deploy.site import load_site

    cluster = load_site(site).on_kubernetes()
    where = config_in_pods(config, cluster)
    run = Run(tilts, out, where, tuple(overrides or ()), thickness, impute_nonfinite, no_despike)
    settings = problem_config(config, overrides or [], thickness, impute_nonfinite, no_despike)
    found = _plan(plan, tilts_here or tilts, settings, workers, cluster.max_workers, memory)
    text = render_rayjob(name, run, kubernetes_resources(found, cluster), cluster)
    _write(output, text, ("--site", site), ("--plan", plan), ("--config", config))


def raycluster(
    tilts: Tilts,
    site: Site,
    name: Annotated[str, typer.Option(help="Of the RayCluster.")] = "ddgm",
    plan: PlanFile = None,
    tilts_here: Here = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    thickness: Thickness = None,
    impute_nonfinite: MaskBad = False,
    no_despike: NoDespike = False,
    workers: Workers = None,
    memory: Memory = None,
    output: Output = None,
) -> None:
    """Write a RayCluster that stays, of the size for one run after the other like this one."""
    from ddgm_dist.deploy.planned import kubernetes_resources
    from ddgm_dist.deploy.pods import check_store
    from ddgm_dist.deploy.rayjob import render_raycluster
    from ddgm_dist.deploy.site import load_site

    cluster = load_site(site).on_kubernetes()
    check_store("tilts", tilts, cluster)
    settings = problem_config(config, overrides or [], thickness, impute_nonfinite, no_despike)
    found = _plan(plan, tilts_here or tilts, settings, workers, cluster.max_workers, memory)
    text = render_raycluster(name, kubernetes_resources(found, cluster), cluster)
    _write(output, text, ("--site", site), ("--plan", plan), ("--config", config))


def data_pod(site: Site, output: Output = None) -> None:
    """Write a pod that sees the site's volumes: to copy data in and out, and to look."""
    from ddgm_dist.deploy.data_pod import render_data_pod
    from ddgm_dist.deploy.site import load_site

    _write(output, render_data_pod(load_site(site).on_kubernetes()), ("--site", site))


def slurm(
    tilts: Tilts,
    out: Out,
    site: Site,
    name: Annotated[str, typer.Option(help="Of the job.")] = "ddgm",
    plan: PlanFile = None,
    tilts_here: Here = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    thickness: Thickness = None,
    impute_nonfinite: MaskBad = False,
    no_despike: NoDespike = False,
    workers: Workers = None,
    memory: Memory = None,
    batch: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="More runs, TILTS.zarr OUT.zarr on a line: an array of jobs, planned as the first.",
            show_default=False,
        ),
    ] = None,
    max_parallel: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Jobs of the array that run at a time.", show_default=False
        ),
    ] = None,
    output: Output = None,
) -> None:
    """Write a batch script for SLURM: sbatch FILE."""
    from ddgm_dist.deploy.planned import slurm_resources
    from ddgm_dist.deploy.site import load_site
    from ddgm_dist.deploy.slurm import read_batch, render_sbatch

    profile = load_site(site)
    nodes = profile.on_slurm()
    run = _run(tilts, out, config, overrides, thickness, impute_nonfinite, no_despike)
    settings = problem_config(config, overrides or [], thickness, impute_nonfinite, no_despike)
    found = _plan(plan, tilts_here or tilts, settings, workers, nodes.max_workers, memory)
    runs = run if batch is None else read_batch(batch, run)
    needs = slurm_resources(found, nodes)
    text = render_sbatch(runs, needs, profile, name=name, max_parallel=max_parallel)
    inputs = (("--site", site), ("--plan", plan), ("--config", config), ("--batch", batch))
    _write(output, text, *inputs)


def lint(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE...", help="Manifests; - is standard input.", show_default=False
        ),
    ] = None,
    crds: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Directory of KubeRay's CRDs (YAML).", show_default=False),
    ] = None,
    kubernetes: Annotated[str, typer.Option(metavar="VERSION", help="Of Kubernetes.")] = "1.31",
    no_schema: Annotated[
        bool, typer.Option("--no-schema", help="Hold documents against the rules alone.")
    ] = False,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules.")] = False,
) -> None:
    """Check manifests: schemas, the operator's own rules, and ours; exit status 1 on findings."""
    import sys

    from ddgm_dist.deploy.lint import RULES, Schemas, lint_files, lint_text
    from ddgm_dist.errors import InputError

    if rules:
        for rule in RULES:
            typer.echo(f"{rule.name:26}{rule.law}")
        return
    if not files:
        raise InputError("FILE", "nothing", "name at least one manifest", "or list the --rules")
    schemas = None if no_schema else Schemas(crds, kubernetes)
    found = []
    for file in files:
        if str(file) == "-":
            found += lint_text(sys.stdin.read(), schemas, source="-")
        else:
            found += lint_files([file], schemas)
    for each in found:
        typer.echo(str(each))
    if found:
        count = len(found)
        typer.echo(f"{count} finding{'s' if count > 1 else ''}", err=True)
        raise typer.Exit(1)


def _run(
    tilts: str,
    out: str,
    config: Path | None,
    overrides: list[str] | None,
    thickness: int | None,
    impute_nonfinite: bool,
    no_despike: bool,
) -> Run:
    """The run on nodes that share this file system."""
    from ddgm_dist.deploy.command import Run

    where = "" if config is None else str(config.resolve())
    return Run(tilts, out, where, tuple(overrides or ()), thickness, impute_nonfinite, no_despike)


def _plan(
    file: Path | None,
    tilts: str | Path,
    config: Mapping[str, Any],
    workers: int | None,
    most: int,
    memory: str | None,
) -> Plan | Mapping[str, Any]:
    """The plan of a file, or made here; a configuration that no run would take is refused first."""
    from ddgm_dist.deploy.planned import plan_run, read_plan
    from ddgm_dist.errors import InputError
    from ddgm_dist.planning.config import parse_config

    parse_config(config)
    if file is None:
        limit = None if memory is None else parse_memory(memory)
        return plan_run(store_argument(str(tilts)), config, workers=workers or most, memory=limit)
    for option, value in (("--workers", workers), ("--memory", memory)):
        if value is not None:
            raise InputError(
                option,
                value,
                f"is settled by the plan in {file}",
                f"give {option} to `ddgm-dist plan` instead",
            )
    return read_plan(file)


def _write(path: Path | None, text: str, *inputs: tuple[str, Path | None]) -> None:
    """Write a manifest, whole or not at all, and over none of the files that it is made from."""
    if path is None:
        typer.echo(text, nl=False)
        return
    from ddgm_dist.errors import InputError
    from ddgm_dist.paths.atomic import replace_file
    from ddgm_dist.paths.locate import place_of
    from ddgm_dist.paths.overlap import refuse_overlap

    places = [(name, place_of(file, name)) for name, file in inputs if file is not None]
    refuse_overlap(place_of(path, "--output"), "--output", places)
    if path.is_dir():
        raise InputError("--output", str(path), "is a folder", "name a file")
    replace_file(path, text.encode())
    typer.echo(f"written: {path}")
