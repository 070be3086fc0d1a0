"""Arguments and options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ddgm_dist.core.units import parse_bytes

__all__ = [
    "Address",
    "AsJson",
    "ConfigFile",
    "EngineName",
    "ImputeNonfinite",
    "Memory",
    "NoDespike",
    "Overrides",
    "Overwrite",
    "PixelSize",
    "PresetName",
    "Quiet",
    "Rows",
    "Scheduler",
    "Seed",
    "Thickness",
    "TiltAxis",
    "TiltsIn",
    "TiltsOut",
    "VerifyInput",
    "Workers",
    "store",
    "store_argument",
]


EngineName = Literal["auto", "local", "ray"]
TiltAxis = Literal["rows", "columns"]


def store_argument(text: str) -> str | Path:
    """A store named on the command line; URLs stay text, as a Path would lose one of the slashes."""
    return text if "://" in text else Path(text)


def store(metavar: str, text: str) -> Any:
    """A positional argument that names a store, or several, with its text of help."""
    return typer.Argument(parser=store_argument, metavar=metavar, help=text)


def _size(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} {error}") from None


# Any: typer knows no union of str and Path.
TiltsIn = Annotated[
    Any, store("TILTS.zarr", "Tilt series: a path, or a URL such as s3://bucket/path.")
]
TiltsOut = Annotated[Any, store("TILTS.zarr", "Tilt series to write: a path or a URL.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="YAML configuration.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override one key of the configuration; may be repeated."
    ),
]
PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="A set of values, such as fast; keys given beside it win. See ddgm-dist presets.",
    ),
]
Thickness = Annotated[
    int | None,
    typer.Option(
        metavar="PX",
        min=1,
        help="Thickness of the specimen in voxels, if the tilt series does not say.",
    ),
]
ImputeNonfinite = Annotated[
    bool,
    typer.Option("--impute-nonfinite", help="Impute NaN and inf pixels instead of refusing them."),
]
NoDespike = Annotated[
    bool,
    typer.Option(
        "--no-despike",
        help="Keep hot pixels, blank views and filled edges as data instead of masking them.",
    ),
]
VerifyInput = Annotated[
    bool,
    typer.Option(
        "--verify-input",
        help="Read all pixels and compare their digests with those stored at ingest.",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace an existing output, once the new one is complete."),
]
Workers = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Ray workers; as many as fit by default.")
]
Scheduler = Annotated[
    Literal["threads", "ray", "sync"],
    typer.Option(help="Compute in threads of this process, on Ray, or sequentially (sync)."),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Ray cluster to join (auto finds one); by default Ray starts on this machine.",
    ),
]
Memory = Annotated[
    int | None,
    typer.Option(parser=_size, metavar="SIZE", help="Memory for each worker, such as 8GiB."),
]
PixelSize = Annotated[
    float | None, typer.Option("--pixel-size", metavar="NM", help="Pixel size in nm.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")]
Rows = Annotated[str | None, typer.Option(metavar="A:B", help="Rows (y) to keep; all by default.")]
