"""``ingest``: a recorded tilt series into a Zarr store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ddgm_dist.cli.options import (
    ImputeNonfinite,
    Overwrite,
    PixelSize,
    Rows,
    TiltAxis,
    TiltsOut,
    store,
)
from ddgm_dist.cli.values import parse_angles, parse_slice

if TYPE_CHECKING:
    from ddgm_dist.tilts.provenance import Provenance

__all__ = ["ingest"]

_SOURCES = (
    "MRC stack or mdoc (files beside it are read), folder of etomo or of images, TIFF, HDF5 (NXtomo, "
    "DXchange), Zarr, .npy or .npz."
)


def ingest(
    source: Annotated[Any, store("SOURCE", _SOURCES)],
    tilts_out: TiltsOut,
    angles: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Angles in degrees: a file, start:stop:step or a list; else as the files say.",
        ),
    ] = None,
    xf: Annotated[
        str | None,
        typer.Option(
            "--xf",
            metavar="FILE|none",
            help="Alignment of the images, .xf or .aln; none takes them as aligned.",
        ),
    ] = None,
    tilt_axis_angle: Annotated[
        float | None,
        typer.Option(
            metavar="DEG", help="Tilt axis from the vertical, counter-clockwise, as IMOD has it."
        ),
    ] = None,
    angle_offset: Annotated[
        float | None, typer.Option(metavar="DEG", help="Added to all tilt angles.")
    ] = None,
    axis_column: Annotated[
        float | None,
        typer.Option(
            metavar="COLUMN", help="Column of the tilt axis, from 0; the middle by default."
        ),
    ] = None,
    thickness: Annotated[
        int | None,
        typer.Option(
            metavar="PX", min=1, help="Thickness of the specimen in pixels of the source."
        ),
    ] = None,
    pixel_size: PixelSize = None,
    tilt_axis: Annotated[
        TiltAxis, typer.Option(help="rows: the tilt axis is vertical; columns: it is horizontal.")
    ] = "rows",
    rows: Rows = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="A:B", help="Columns (u) of the aligned images to keep."),
    ] = None,
    bin: Annotated[
        int, typer.Option("--bin", metavar="N", min=1, help="Bin N x N pixels into one.")
    ] = 1,
    counts: Annotated[
        str | None,
        typer.Option(
            metavar="auto|none|I0|FILE",
            help="Counts: take the logarithm against the beam, estimated, given, or per view.",
        ),
    ] = None,
    dark: Annotated[
        str | None,
        typer.Option(
            metavar="VALUE|FILE", help="Vacuum or dark field, to subtract: a number or an image."
        ),
    ] = None,
    flat: Annotated[
        str | None,
        typer.Option(metavar="VALUE|FILE", help="Flat field, to divide by: a number or an image."),
    ] = None,
    log: Annotated[
        bool, typer.Option("--log", help="Values are transmissions: take minus the logarithm.")
    ] = False,
    polarity: Annotated[
        Literal["dark", "bright"] | None,
        typer.Option(help="Dense material is dark (transmission) or bright (HAADF)."),
    ] = None,
    exclude: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Views to leave out, from 1 as in IMOD: 1,7,33-35."),
    ] = None,
    max_angle: Annotated[
        float | None, typer.Option(metavar="DEG", help="Leave out steeper views.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Array to read, where the source holds several."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse what would only be warned of.")
    ] = False,
    no_despike: Annotated[
        bool, typer.Option("--no-despike", help="Keep hot pixels as they are.")
    ] = False,
    impute_nonfinite: ImputeNonfinite = False,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Processes; the processor's cores by default."),
    ] = None,
    description: Annotated[str, typer.Option(help="Free text; kept with the data.")] = "",
    overwrite: Overwrite = False,
) -> None:
    """Bring a recorded tilt series into a Zarr store, and say what was used for it.

    Files beside a stack are read: .tlt, .rawtlt, .xf, .mdoc, .aln, tilt.com and newst.com.
    """
    chosen = None if angles is None else parse_angles(angles)
    part_y = None if rows is None else parse_slice(rows, "--rows")
    part_u = None if columns is None else parse_slice(columns, "--columns")
    from ddgm_dist.acquisition.ingest import ingest as run
    from ddgm_dist.readers.imod.lists import parse_views
    from ddgm_dist.tile.host import allocate_as_workers

    allocate_as_workers()

    series = run(
        source,
        tilts_out,
        angles=chosen,
        xf=xf,
        tilt_axis_angle=tilt_axis_angle,
        angle_offset=angle_offset,
        axis_column=axis_column,
        thickness=thickness,
        pixel_size_nm=pixel_size,
        tilt_axis=tilt_axis,
        rows=part_y,
        columns=part_u,
        bin=bin,
        counts=_number(counts, ("auto", "none")),
        dark=_number(dark),
        flat=_number(flat),
        log=log,
        polarity=polarity,
        exclude=() if exclude is None else parse_views(exclude, "--exclude"),
        max_angle=max_angle,
        dataset=dataset,
        strict=strict,
        despike=not no_despike,
        impute_nonfinite=impute_nonfinite,
        workers=workers,
        description=description,
        overwrite=overwrite,
        progress=True,
    )
    assert series.meta.provenance is not None, "ingest leaves one"
    _show(series.meta.provenance)
    n_tilts, n_rows, n_columns = series.shape
    typer.echo(f"{tilts_out}: {n_tilts} tilts of {n_rows} x {n_columns} pixels")


def _number(text: str | None, words: tuple[str, ...] = ()) -> Any:
    """A number, one of some words, or a path."""
    if text is None or text in words:
        return text
    try:
        return float(text)
    except ValueError:
        return Path(text)


def _show(record: Provenance) -> None:
    """Print the table of where everything comes from."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("property", "value", "from"):
        table.add_column(heading, overflow="fold")
    for fact in record.facts:
        table.add_row(fact.what, fact.value, fact.origin)
    console.print(table)
    if record.left_out or record.unused:
        other = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        other.add_column("not used", overflow="fold")
        other.add_column("why", overflow="fold")
        for views, why in record.left_out_together():
            other.add_row(views, why)
        for file in record.unused:
            other.add_row(file.name, file.why)
        console.print(other)
