"""Turn a microscope's or beamline's own files into a tilt-series store."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ddgm_dist.acquisition.check_pixels import find_nonfinite, refuse_lost_contrast
from ddgm_dist.acquisition.intensities import Intensities, dark_level, decide_intensities
from ddgm_dist.acquisition.layout import Layout, lay_out
from ddgm_dist.acquisition.options import (
    Angles,
    Counts,
    IngestOptions,
    Polarity,
    TiltAxis,
)
from ddgm_dist.acquisition.prepared import PreparedView, PreparedViews
from ddgm_dist.acquisition.processes import runner
from ddgm_dist.acquisition.select import without_faulty
from ddgm_dist.acquisition.source_state import source_states
from ddgm_dist.acquisition.sources import Source, open_source
from ddgm_dist.acquisition.survey import measure_views
from ddgm_dist.acquisition.writing import write_series
from ddgm_dist.errors import InputError
from ddgm_dist.paths.claim import prepare_output
from ddgm_dist.paths.locate import locate, place_of
from ddgm_dist.paths.overlap import refuse_overlap
from ddgm_dist.paths.place import Place, is_url
from ddgm_dist.paths.store_name import check_store_name
from ddgm_dist.readers.images.names import disagreement, pairing
from ddgm_dist.tilts.findings import findings
from ddgm_dist.tilts.progress import show_reading
from ddgm_dist.tilts.provenance import Provenance, ViewRecord
from ddgm_dist.tilts.series import TiltSeries, TiltSeriesMeta, check_meta, open_series_at
from ddgm_dist.views.statistics import ViewStatistics

__all__ = ["TiltAxis", "ingest"]

_log = logging.getLogger("ddgm_dist")

# Changes whenever the same source and options give other pixels.
_VERSION = 1


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
        angles=_file_or_numbers(angles),
        xf=_alignment_file(xf, source),
        tilt_axis=tilt_axis,
        tilt_axis_angle=tilt_axis_angle,
        axis_column=axis_column,
        angle_offset=angle_offset,
        thickness=thickness,
        pixel_size_nm=pixel_size_nm,
        rows=rows,
        columns=columns,
        bin=bin,
        counts=_counts(counts),
        dark=_number_or_file(dark, "dark"),
        flat=_number_or_file(flat, "flat"),
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
    refuse_overlap(place, "out", [("source", file) for file in _files(found)])
    # Writing checks it again, but only after all views have been read.
    prepare_output(place, "out", overwrite=overwrite)
    return _Ingest(found, place, options, progress=progress).run(
        workers=workers, overwrite=overwrite
    )


class _Ingest:
    """One ingest, step by step."""

    def __init__(
        self, source: Source, place: Place, options: IngestOptions, *, progress: bool
    ) -> None:
        self.source, self.place, self.options = source, place, options
        self.record, self.progress = Provenance(), progress
        # Before anything is read: a source that changes later is not mixed with what it was.
        self._states = source_states(_read_by(source, options), source.path)

    def run(self, *, workers: int | None, overwrite: bool) -> TiltSeries:
        """Do all of it."""
        source, options, record = self.source, self.options, self.record
        layout = lay_out(source, options, record)
        check_meta(self._meta(layout), len(layout.views), source.path)
        self._say_pairs(layout)
        for name, why in source.unused:
            record.skip(name, why)
        for note in source.notes:
            record.say("note", note, source.kind)
        with runner(source.stack, workers) as (run, count):
            with show_reading("looking at the views", shown=self.progress) as report:
                statistics = measure_views(
                    source.stack,
                    [view.index for view in layout.views],
                    despike=options.despike,
                    dark=dark_level(source, options),
                    run=run,
                    report=report,
                )
            layout, statistics = without_faulty(layout, statistics, source, options, record)
            check_meta(self._meta(layout), len(layout.views), source.path)
            intensities = decide_intensities(source, layout, statistics, options, record)
            views, meta = self._settle(layout, statistics, intensities)
            self._warn()
            with show_reading(f"writing {self.place.name}", shown=self.progress) as report:
                write_series(
                    self.place,
                    views,
                    meta,
                    dtype=self._dtype(views, meta),
                    overwrite=overwrite,
                    recipe=self._recipe(layout),
                    workers=count,
                    run=run,
                    report=report,
                )
        series = open_series_at(self.place, checked=True)
        for finding in findings(series, dark=intensities.dark_level):
            if finding.kind == "constant" and not intensities.may_have_offset:
                continue
            _log.warning("%s: %s", source.path, finding.text)
        return series

    def _settle(
        self, layout: Layout, statistics: Sequence[ViewStatistics], intensities: Intensities
    ) -> tuple[PreparedViews, TiltSeriesMeta]:
        """The views as they will be stored, and their metadata.

        Raises
        ------
        InputError
            Pixels are NaN or infinite, or float32 cannot resolve them.
        """
        views = self._prepare(layout, intensities, [s.threshold for s in statistics])
        refuse_lost_contrast(views, statistics, self.source.path)
        nonfinite = sum(s.nonfinite for s in statistics)
        if nonfinite and views.is_plain:
            # Only those within the kept rows and columns count.
            nonfinite = find_nonfinite(views, self.source.path, self.options)
        elif nonfinite:
            self.record.say("NaN and infinite pixels", f"{nonfinite}", "unmeasured")
        self._say_views(layout, intensities, [0 if views.is_plain else s.hot for s in statistics])
        meta = replace(self._meta(layout), provenance=self.record, sigma_y=intensities.sigma_y)
        if nonfinite or views.has_outside or intensities.dead:
            meta = replace(meta, bad_pixels="unmeasured")
        return views, meta

    def _warn(self) -> None:
        """Log the warnings so far; with ``strict`` the first one is an error."""
        for line in self.record.warnings:
            _log.warning("%s: %s", self.source.path, line)
        if self.options.strict and self.record.warnings:
            raise InputError(
                "source",
                self.source.path,
                f"is refused with --strict: {self.record.warnings[0]}",
                "mend it, or leave out --strict",
            )

    def _dtype(self, views: PreparedViews, meta: TiltSeriesMeta) -> np.dtype[Any]:
        """Small integers are kept (half the bytes); float32 holds all of them exactly."""
        dtype = self.source.stack.dtype
        small = dtype.kind in "iu" and dtype.itemsize <= 2
        keeps = views.is_plain and small and meta.bad_pixels is None
        return dtype.newbyteorder("=") if keeps else np.dtype(np.float32)

    def _meta(self, layout: Layout) -> TiltSeriesMeta:
        return TiltSeriesMeta(
            angles_deg=tuple(view.angle_deg for view in layout.views),
            shifts_px=layout.shifts_px,
            pixel_size_nm=layout.pixel_size_nm,
            thickness_px=layout.thickness_px,
            description=self.options.description,
        )

    def _prepare(
        self, layout: Layout, intensities: Intensities, thresholds: Sequence[float | None]
    ) -> PreparedViews:
        """The views as they are stored; hot pixels are imputed only where they would spread."""
        views = tuple(
            PreparedView(view.index, view.affine, None, level)
            for view, level in zip(layout.views, intensities.levels, strict=True)
        )
        prepared = PreparedViews(
            stack=self.source.stack,
            views=views,
            size=layout.size,
            y=layout.y,
            u=layout.u,
            bin=self.options.bin,
            dark=intensities.dark,
            flat=intensities.flat,
            gain=intensities.gain,
        )
        turned = any(abs(view.affine.a12) > 0 for view in layout.views)
        prepared = replace(prepared, by_view=self.source.by_view or turned or prepared.is_resampled)
        if prepared.is_plain or not self.options.despike:
            return prepared
        spared = tuple(
            replace(view, threshold=threshold)
            for view, threshold in zip(views, thresholds, strict=True)
        )
        return replace(prepared, views=spared)

    def _say_views(self, layout: Layout, intensities: Intensities, hot: Sequence[int]) -> None:
        """Record what was done to each view, and the sums."""
        sigma = intensities.sigma_y or (None,) * len(layout.views)
        self.record.views = [
            ViewRecord(v.index + 1, v.angle_deg, h, floored, level, s)
            for v, h, floored, level, s in zip(
                layout.views, hot, intensities.floored, intensities.levels, sigma, strict=True
            )
        ]
        if sum(hot):
            affected = sum(1 for h in hot if h)
            where = "1 view" if affected == 1 else f"{affected} views"
            self.record.say("hot pixels", f"{sum(hot)} imputed, in {where}", "their neighbours")
        if sum(intensities.floored):
            self.record.say(
                "pixels without a count",
                f"{sum(intensities.floored)}",
                "of the source; taken for half a quantum",
            )
        left = len(self.record.left_out)
        self.record.say(
            "views", f"{len(layout.views)} kept", f"{left} left out, see below" if left else ""
        )

    def _say_pairs(self, layout: Layout) -> None:
        """Record which image of a folder is taken for which angle, and whether names say another."""
        if not self.source.images:
            return
        files = [self.source.images[view.index] for view in layout.views]
        degrees = [view.angle_deg for view in layout.views]
        self.record.say("images and angles", pairing(files, degrees), "order of the names")
        if wrong := disagreement(files, degrees):
            self.record.warnings.append(wrong)

    def _recipe(self, layout: Layout) -> str | None:
        """Digest of the source's files and of all that decides what is written; None if unknown.

        Raises
        ------
        InputError
            The source was changed meanwhile.
        """
        if self._states is None:
            return None
        states = source_states(_read_by(self.source, self.options), self.source.path)
        if states != self._states:
            raise InputError(
                "source",
                self.source.path,
                "was changed while it was being read",
                "wait until it is whole, then run the same command again",
            )
        values = [states, self.source.path, repr(self.options), repr(layout), _VERSION]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _read_by(source: Source, options: IngestOptions) -> list[Path]:
    """All files and folders that an ingest reads; empty for an object store alone."""
    given = (options.angles, options.xf, options.counts, options.dark, options.flat)
    return [*_files(source), *(f for f in given if isinstance(f, Path))]


def _files(source: Source) -> list[Path]:
    """All files that are read."""
    beside = [] if source.companions is None else source.companions.files
    described = [] if source.mdoc is None else [source.mdoc.path]
    return [*source.files, *beside, *described]


def _file_or_numbers(angles: Angles | None) -> Angles | None:
    """Angles, whose file must be on a disk."""
    return _file(angles, "angles") if isinstance(angles, str | Path) else angles


def _alignment_file(given: str | Path | None, source: str | Path) -> Path | Literal["none"] | None:
    """The file of an alignment; one that is not here may lie beside the source."""
    if given is None or str(given) == "none":
        return None if given is None else "none"
    beside = Path(source).parent / given
    if not Path(given).is_file() and beside.is_file():
        return beside
    return _file(given, "xf")


def _counts(given: Counts | str | None) -> Counts | None:
    """A number, a word, or a file that must be on a disk."""
    if given == "auto":
        return "auto"
    if given == "none":
        return "none"
    return _number_or_file(given, "counts")


def _number_or_file(given: float | str | Path | None, argument: str) -> float | Path | None:
    if given is None or isinstance(given, int | float):
        return None if given is None else float(given)
    return _file(given, argument)


def _file(path: str | Path, argument: str) -> Path:
    """A file that must be on a disk.

    Raises
    ------
    InputError
        It is in an object store, or it does not exist.
    """
    place = place_of(path, argument)
    if not isinstance(place, Path):
        raise InputError(
            argument, str(path), "is in an object store, where only Zarr is read", "copy it here"
        )
    if not place.is_file():
        raise InputError(argument, str(path), "is no file that exists")
    return place
