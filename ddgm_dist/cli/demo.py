"""``demo``: a newcomer's first reconstruction."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write into.")] = Path(
        "demo-output"
    ),
) -> None:
    """Reconstruct simulated tissue and a real needle, with tables and pictures."""
    from ddgm_dist.demo.demo import run_demo

    run_demo(directory, report=typer.echo)
