"""``simulate``: a tilt series of a known volume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddgm_dist.cli.options import (
    Overwrite,
    PixelSize,
    Rows,
    Seed,
    TiltsOut,
)
from ddgm_dist.cli.values import MAX_ANGLES, even_angles, parse_angles, parse_shape, parse_slice
from ddgm_dist.errors import InputError

if TYPE_CHECKING:
    from ddgm_dist.readers.base import VolumeSource

__all__ = ["simulate", "volume_argument"]

PHANTOM = "phantom:"


def volume_argument(text: str, argument: str) -> str | VolumeSource:
    """A volume named on the command line: a path, or ``phantom:Z,Y,X`` for procedural tissue."""
    if not text.startswith(PHANTOM):
        return text
    shape = parse_shape(text.removeprefix(PHANTOM), argument)
    from ddgm_dist.simulation.phantom import TissuePhantom

    return TissuePhantom(shape)


def simulate(
    volume: Annotated[
        str,
        typer.Argument(
            metavar="VOLUME",
            help="Zarr, MRC, .npy, folder of images, or phantom:Z,Y,X for procedural tissue.",
        ),
    ],
    tilts_out: TiltsOut,
    angles: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Angles in degrees: start:stop:step, a list with commas, or a file.",
        ),
    ] = None,
    tilts: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=MAX_ANGLES, help="Number of evenly spaced tilts; 61."),
    ] = None,
    max_angle: Annotated[
        float | None, typer.Option(metavar="DEG", help="Largest of them; 60.")
    ] = None,
    noise: Annotated[
        str,
        typer.Option(
            help="none, gaussian:F (F of the projections' standard deviation) or poisson:DOSE."
        ),
    ] = "none",
    field: Annotated[
        int | None,
        typer.Option(
            metavar="W",
            min=1,
            help="Columns of the detector; narrower than the volume as in reality.",
        ),
    ] = None,
    rows: Rows = None,
    shifts: Annotated[
        float, typer.Option(metavar="PX", min=0, help="Random shifts of the tilts, up to PX.")
    ] = 0.0,
    seed: Seed = 0,
    pixel_size: PixelSize = None,
    overwrite: Overwrite = False,
) -> None:
    """Project a volume into a tilt series, with noise, shifts and a missing wedge."""
    chosen = _simulated_angles(angles, tilts, max_angle)
    part = None if rows is None else parse_slice(rows, "--rows")
    source = volume_argument(volume, "VOLUME")
    from ddgm_dist.paths.locate import locate, place_of
    from ddgm_dist.paths.overlap import refuse_overlap
    from ddgm_dist.simulation.simulate import simulate as run

    if angles is not None and Path(angles).is_file():
        given = [("--angles", place_of(angles, "--angles"))]
        refuse_overlap(locate(tilts_out, "TILTS.zarr"), "TILTS.zarr", given)
    series = run(
        source,
        tilts_out,
        angles=chosen,
        noise=noise,
        field=field,
        rows=part,
        shifts=shifts,
        seed=seed,
        pixel_size_nm=pixel_size,
        overwrite=overwrite,
    )
    _report(tilts_out, series.shape)


def _simulated_angles(
    angles: str | None, tilts: int | None, max_angle: float | None
) -> tuple[float, ...]:
    if angles is None:
        return even_angles(61 if tilts is None else tilts, 60.0 if max_angle is None else max_angle)
    if tilts is not None or max_angle is not None:
        raise InputError("--angles", angles, "says it all; leave out --tilts and --max-angle")
    chosen = parse_angles(angles)
    if isinstance(chosen, Path):
        from ddgm_dist.readers.angles import read_angles

        return read_angles(chosen)
    return chosen


def _report(path: str | Path, shape: tuple[int, int, int]) -> None:
    n_tilts, n_rows, n_columns = shape
    typer.echo(f"{path}: {n_tilts} tilts of {n_rows} x {n_columns} pixels")
