"""``manifest lint``: find errors in manifests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ddgm_dist.errors import InputError

__all__ = ["lint"]


def lint(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE...", help="Manifests; - is standard input.")
    ] = None,
    crds: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Directory of KubeRay's CRDs (YAML).")
    ] = None,
    kubernetes: Annotated[
        str, typer.Option(metavar="VERSION", help="Version of Kubernetes.")
    ] = "1.31",
    no_schema: Annotated[
        bool, typer.Option("--no-schema", help="Check the rules only, not the schemas.")
    ] = False,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules.")] = False,
) -> None:
    """Check manifests against schemas, the operator's rules and ours; exit status 1 on findings."""
    from ddgm_dist.deploy.lint import RULES, Schemas, lint_files, lint_text

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
