"""The steps of an ingest: place the views, look at them, decide on their values, write the store."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from ddgm_dist.acquisition.check_pixels import find_nonfinite, refuse_lost_contrast
from ddgm_dist.acquisition.dead_lines import find_dead, leave_out_dead
from ddgm_dist.acquisition.fields import find_fields
from ddgm_dist.acquisition.intensities import Intensities, decide_intensities
from ddgm_dist.acquisition.judging import Judge
from ddgm_dist.acquisition.layout import Layout, lay_out
from ddgm_dist.acquisition.options import IngestOptions
from ddgm_dist.acquisition.prepared import PreparedViews
from ddgm_dist.acquisition.preparing import kept_parts, prepare_views, stored_dtype
from ddgm_dist.acquisition.processes import runner
from ddgm_dist.acquisition.recipe import Recipe
from ddgm_dist.acquisition.select import without_faulty
from ddgm_dist.acquisition.source import Source
from ddgm_dist.acquisition.survey import measure_views
from ddgm_dist.acquisition.view_records import record_pairs, record_views
from ddgm_dist.acquisition.writing import write_series
from ddgm_dist.core.units import format_bytes
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.paths.folder_size import bytes_of
from ddgm_dist.paths.place import Place
from ddgm_dist.pixels.observations import Observations
from ddgm_dist.tilts.findings import findings
from ddgm_dist.tilts.progress import show_reading
from ddgm_dist.tilts.provenance import Provenance
from ddgm_dist.tilts.series import TiltSeries, TiltSeriesMeta, check_meta, open_series_at
from ddgm_dist.views.statistics import ViewStatistics

__all__ = ["Steps"]

_log = logging.getLogger("ddgm_dist")


class Steps:
    """One ingest, step by step.

    Parameters
    ----------
    source
        The open source.
    place
        Place of the store to be made.
    options
        Options of the ingest.
    progress
        Show progress on standard error.
    """

    def __init__(
        self, source: Source, place: Place, options: IngestOptions, *, progress: bool
    ) -> None:
        self.source, self.place, self.options = source, place, options
        self.record, self.progress = Provenance(), progress
        # Before anything is read: a source that changes later is not mixed with what it was.
        self.recipe = Recipe(source, options)

    def run(self, *, workers: int | None, overwrite: bool) -> TiltSeries:
        """Do all of it; see `ddgm_dist.acquisition.ingest.ingest`."""
        source, options, record = self.source, self.options, self.record
        layout = lay_out(source, options, record)
        check_meta(self._meta(layout), len(layout.views), source.path)
        record_pairs(source, layout, record)
        for name, why in source.unused:
            record.skip(name, why)
        for note in source.notes:
            record.say("note", note, source.kind)
        fields = find_fields(source, options, record)
        with runner(source.stack, workers) as (run, count):
            with show_reading("looking at the views", shown=self.progress) as report:
                statistics = measure_views(
                    source.stack,
                    [view.index for view in layout.views],
                    despike=options.despike,
                    dark=fields.empty,
                    kept=kept_parts(source, layout, options.bin),
                    run=run,
                    report=report,
                )
            layout, statistics = without_faulty(layout, statistics, source, options, record)
            check_meta(self._meta(layout), len(layout.views), source.path)
            intensities = decide_intensities(source, layout, statistics, fields, options, record)
            views, meta = self._settle(layout, statistics, intensities)
            self._warn()
            with show_reading(f"writing {self.place.name}", shown=self.progress) as report:
                write_series(
                    self.place,
                    views,
                    meta,
                    dtype=stored_dtype(views, measured=meta.bad_pixels is None),
                    overwrite=overwrite,
                    recipe=self.recipe.digest(layout, views, meta),
                    workers=count,
                    run=run,
                    report=report,
                    judge=self._judge(intensities),
                )
        return open_series_at(self.place, checked=True)

    def _settle(
        self, layout: Layout, statistics: Sequence[ViewStatistics], intensities: Intensities
    ) -> tuple[PreparedViews, TiltSeriesMeta]:
        """The views as they will be stored, and their metadata.

        Raises
        ------
        InputError
            Pixels are NaN or infinite, or float32 cannot resolve them.
        """
        thresholds = [s.threshold for s in statistics]
        views = prepare_views(self.source, layout, intensities, thresholds, self.options)
        parts = kept_parts(self.source, layout, self.options.bin)
        dead = find_dead(statistics, parts, self.source.stack.shape[1:])
        views = leave_out_dead(views, dead, self.options, self.record)
        refuse_lost_contrast(views, statistics, self.source.path)
        nonfinite = sum(s.nonfinite for s in statistics)
        if nonfinite and views.is_plain:
            # Only those within the kept rows and columns count.
            nonfinite = find_nonfinite(views, self.source.path, self.options)
        elif nonfinite:
            self.record.say("NaN and infinite pixels", f"{nonfinite}", "unmeasured")
        imputed = zip(views.views, statistics, strict=True)
        hot = [0 if view.threshold is None else s.hot for view, s in imputed]
        record_views(layout, intensities, hot, self.record)
        meta = replace(self._meta(layout), provenance=self.record, sigma_y=intensities.sigma_y)
        if nonfinite or views.has_outside or views.has_dead or intensities.dead:
            meta = replace(meta, bad_pixels="unmeasured")
        return views, meta

    def _warn(self) -> None:
        """Log the warnings so far; with ``strict`` the first one is an error instead."""
        self._tell(self.record.warnings, "mend it, or leave out --strict")

    def _judge(self, intensities: Intensities) -> Judge:
        """Log what all pixels together show; with ``strict`` it is an error."""

        def judge(series: TiltSeries, seen: Observations, *, kept: bool) -> None:
            hint = "mend it, or leave out --strict"
            if kept and self.options.strict:
                size = bytes_of(series.place)
                where = str(series.place) + ("" if size is None else f", {format_bytes(size)}")
                hint += (
                    f" (the pixels are kept in {where}; the same command without it ends at once)"
                )
            try:
                found = findings(series, seen, dark=intensities.dark_level)
            except StorageError:
                raise
            except Exception as error:  # a look that fails must not keep whole pixels for ever
                why = f"the pixels could not be looked at ({type(error).__name__}: {error})"
                self._tell([why], hint)
                return
            named = [f for f in found if f.kind != "constant" or intensities.may_have_offset]
            self._tell([finding.text for finding in named], hint)

        return judge

    def _tell(self, warnings: Sequence[str], hint: str) -> None:
        """Log warnings; with ``strict`` the first one is raised, and the others are logged."""
        strict = self.options.strict
        for line in warnings[1:] if strict else warnings:
            _log.warning("%s: %s", self.source.path, line)
        if strict and warnings:
            raise self._refusal(warnings[0], hint)

    def _refusal(self, why: str, hint: str) -> InputError:
        return InputError("source", self.source.path, f"is refused with --strict: {why}", hint)

    def _meta(self, layout: Layout) -> TiltSeriesMeta:
        return TiltSeriesMeta(
            angles_deg=tuple(view.angle_deg for view in layout.views),
            shifts_px=layout.shifts_px,
            pixel_size_nm=layout.pixel_size_nm,
            thickness_px=layout.thickness_px,
            description=self.options.description,
        )
