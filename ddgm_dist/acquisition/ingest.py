"""Turn a microscope's or beamline's own files into a tilt-series store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ddgm_dist.acquisition.arguments import (
    alignment_file,
    counts_option,
    file_or_numbers,
    number_or_images,
)
from ddgm_dist.acquisition.options import Angles, Counts, IngestOptions, Polarity, TiltAxis
from ddgm_dist.acquisition.recipe import files_of
from ddgm_dist.acquisition.sources import open_source
from ddgm_dist.acquisition.steps import Steps
from ddgm_dist.errors import InputError
from ddgm_dist.paths.claim import prepare_output
from ddgm_dist.paths.locate import locate, place_of
from ddgm_dist.paths.overlap import refuse_overlap
from ddgm_dist.paths.place import is_url
from ddgm_dist.paths.store_name import check_store_name
from ddgm_dist.tilts.series import TiltSeries

__all__ = ["TiltAxis", "ingest"]


def ingest(
    source: str | Path,
    out: str | Path,
    *,
    angles: Angles | None = None,
    xf: str | Path | None = None,
    tilt_axis: TiltAxis = "rows",
    tilt_axis_angle: float | None = None,
    axis_column: float | None = None,
    angle_offset: float | None = None,
    thickness: int | None = None,
    pixel_size_nm: float | None = None,
    rows: slice | None = None,
    columns: slice | None = None,
    bin: int = 1,
    counts: Counts | str | None = None,
    dark: float | str | Path | None = None,
    flat: float | str | Path | None = None,
    log: bool = False,
    polarity: Polarity | None = None,
    exclude: Sequence[int] = (),
    max_angle: float | None = None,
    dataset: str | None = None,
    strict: bool = False,
    despike: bool = True,
    impute_nonfinite: bool = False,
    workers: int | None = None,
    description: str = "",
    overwrite: bool = False,
    progress: bool = False,
) -> TiltSeries:
    """Write a tilt-series store from recorded projections and the files beside them.

    The store holds line integrals, aligned, with the tilt axis along y. Its attribute says where
    everything comes from (`ddgm_dist.tilts.provenance.Provenance`). An interrupted ingest is resumed by
    the same call.

    Parameters
    ----------
    source
        An MRC stack, TIFF, HDF5 (NXtomo, DXchange), ``.npy``, ``.npz`` or ``.mdoc`` file; a folder of
        images, or one that etomo works in; or a Zarr array by path or URL. Axes are
        ``(view, row, column)``. Beside an MRC stack, ``.tlt``, ``.rawtlt``, ``.xf``, ``.aln``,
        ``.mdoc``, ``tilt.com`` and ``newst.com`` are read.
    out
        The store to make: a path or a URL.
    angles
        Degrees, one per view: a file (see `ddgm_dist.readers.angles.read_angles`) or numbers. By default
        what the files say.
    xf
        Alignment of the images: a ``.xf`` or ``.aln`` file, or ``none`` if they are aligned. By default
        the file beside a stack that is not aligned.
    tilt_axis
        ``rows``: the tilt axis is vertical, as IMOD aligns it. ``columns``: it is horizontal, and the
        images are turned by a quarter (`tilt_axis_angle` -90).
    tilt_axis_angle
        Tilt axis from the vertical, degrees, counter-clockwise where rows count upwards.
    axis_column
        Column of the tilt axis in the turned images, from 0, before binning; the middle by default.
    angle_offset
        Degrees added to all angles.
    thickness
        Thickness of the slab to reconstruct, pixels of the source; may wait until the reconstruction.
    pixel_size_nm
        Edge of a pixel of the source at the specimen; by default what the files say.
    rows, columns
        Part of the store's rows ``y`` and columns ``u`` to keep. Columns off the centre by ``x0`` show
        the specimen around ``x0``, which moves with the tilt: a shift of ``x0 (cos - 1)`` is added.
    bin
        Pixels of the source along an edge of a pixel of the store. Counts are added before the
        logarithm; line integrals are averaged.
    counts
        Values are counts or another transmission: take the logarithm against the beam. ``auto``
        estimates the beam of each view; a number is that of all views, a file has one per view.
        ``none`` keeps the values. By default counts are converted where flat fields belong to the
        source, or where both the values and the files of a microscope say that they are counts.
    dark, flat
        Vacuum or dark field to subtract, flat field to divide by: a number, or a file with an image.
        By default what the source says.
    log
        Values are transmissions: minus their logarithm is taken.
    polarity
        ``dark``: dense material is dark, as in transmission; ``bright``: the signal adds up.
    exclude
        Views to leave out, from 1.
    max_angle
        Steeper views are left out, degrees. Views beyond 90 degrees are mirrored to the angle less 180.
    dataset
        Array to be read, where the source holds several.
    strict
        Refuse faulty views, and what would be warned of otherwise.
    despike
        Impute hot pixels where pixels are resampled, binned or a logarithm is taken. Elsewhere they are
        masked by the reconstruction.
    impute_nonfinite
        Store NaN and infinite pixels as NaN, to be imputed by the reconstruction.
    workers
        Processes, each of which uses one core; by default one for each core. For small sources the
        default is this process alone, with several threads.
    description
        Free text for the store.
    overwrite
        Replace the store if it exists, when the new one is whole.
    progress
        Show progress on standard error.

    Returns
    -------
    TiltSeries
        The store, open. Integers of at most 16 bits stay integers if pixels are only moved; everything
        else becomes float32.

    Raises
    ------
    InputError
        A file cannot be read, files contradict each other, or options do. Angles are missing, not one
        per view, NaN or too steep. Pixels are NaN or infinite, and ``impute_nonfinite`` is false. The
        output exists, or is, contains or lies in the source.
    StorageError
        The store cannot be written.
    """
    check_store_name(out)
    if workers is not None and not (isinstance(workers, int) and workers >= 1):
        raise InputError("workers", workers, "must be a whole number of processes, at least 1")
    options = IngestOptions(
        angles=file_or_numbers(angles),
        xf=alignment_file(xf, source),
        tilt_axis=tilt_axis,
        tilt_axis_angle=tilt_axis_angle,
        axis_column=axis_column,
        angle_offset=angle_offset,
        thickness=thickness,
        pixel_size_nm=pixel_size_nm,
        rows=rows,
        columns=columns,
        bin=bin,
        counts=counts_option(counts),
        dark=number_or_images(dark, "dark"),
        flat=number_or_images(flat, "flat"),
        log=log,
        polarity=polarity,
        exclude=tuple(exclude),
        max_angle=max_angle,
        strict=strict,
        despike=despike,
        impute_nonfinite=impute_nonfinite,
        dataset=dataset,
        description=description,
    )
    place, origin = locate(out, "out"), place_of(source, "source")
    refuse_overlap(place, "out", [("source", origin)])
    given = [(n, getattr(options, n)) for n in ("angles", "xf", "counts", "dark", "flat")]
    refuse_overlap(place, "out", [(n, f) for n, f in given if isinstance(f, Path)])
    if isinstance(origin, Path) and not is_url(str(source)):
        # Files beside a link belong to it, not those beside what it points to.
        origin = Path.cwd() / Path(source).expanduser()  # not resolved
    found = open_source(origin, dataset, angles=angles is None)
    refuse_overlap(place, "out", [("source", file) for file in files_of(found)])
    # Writing checks it again, but only after all views have been read.
    prepare_output(place, "out", overwrite=overwrite)
    steps = Steps(found, place, options, progress=progress)
    return steps.run(workers=workers, overwrite=overwrite)
