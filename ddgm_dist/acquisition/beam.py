"""The beam of each view: given, or estimated from the values and the doses."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.acquisition.exposures import Exposures, find_exposures
from ddgm_dist.acquisition.fields import Fields
from ddgm_dist.acquisition.layout import Layout
from ddgm_dist.acquisition.options import IngestOptions
from ddgm_dist.acquisition.prepared import Reference
from ddgm_dist.acquisition.reference_files import read_levels
from ddgm_dist.acquisition.source import FRAMES, Source
from ddgm_dist.readers.serialem.mdoc import MdocSection
from ddgm_dist.tilts.provenance import Provenance
from ddgm_dist.views.brightest import LEVEL_PROBABILITIES
from ddgm_dist.views.levels import Levels, estimate_levels
from ddgm_dist.views.statistics import ViewStatistics

__all__ = ["Beam"]

# Transmissions that no specimen in a beam has.
_BRIGHTEST, _DIMMEST = 1.1, 1e-3
# Views whose beam stands out are named if they are at most this share.
_FEW_OUTLIERS = 0.15
# Levels rise with the tilt if the steepest third of the views has so much more than the least tilts, in
# the logarithm, and so many errors of that.
_RISES, _ERRORS = 0.03, 3.0
# Views that a line names.
_NAMED = 5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Beam:
    """Everything that is known of the beam of a source's views.

    Attributes
    ----------
    source, layout, statistics
        The source, the views that are kept, and their statistics in the same order.
    options
        Options of the ingest.
    fields
        Dark and flat fields.
    record
        Takes what is done, and warnings.
    """

    source: Source
    layout: Layout
    statistics: Sequence[ViewStatistics]
    options: IngestOptions
    fields: Fields
    record: Provenance

    @property
    def means(self) -> list[float]:
        """Mean of each view above the dark field."""
        dark = self.fields.mean_dark
        return [s.mean - dark for s in self.statistics]

    @property
    def angles(self) -> list[float]:
        """Tilt of each view, degrees."""
        return [view.angle_deg for view in self.layout.views]

    @property
    def order(self) -> list[int] | None:
        """Rank of each view in the order of recording, which is that of an mdoc's stack."""
        return None if self.source.mdoc is None else [v.index for v in self.layout.views]

    @property
    def exposures(self) -> list[float] | None:
        """Dose of each view, or else its time; None where no file has any.

        Where no dose was calibrated, microscopes write times only. A dose that rises with the tilt is
        mostly set by the time, at the same intensity of the beam. What some views lack is filled in.
        """
        found = self._exposures()
        return None if found is None else list(found.values)

    def _exposures(self) -> Exposures | None:
        mdoc = self.source.mdoc
        if mdoc is None:
            return None
        sections: Sequence[MdocSection | None] = mdoc.sections
        if self.source.kind != FRAMES:
            sections = mdoc.by_stack(self.source.stack.shape[0])
        mine = [sections[view.index] for view in self.layout.views]
        return find_exposures(
            [None if s is None else s.exposure_dose for s in mine],
            [None if s is None else s.exposure_time for s in mine],
            self.angles,
        )

    def levels(self) -> tuple[tuple[float, ...], str]:
        """Counts of the beam of each view, or its transmission beside a flat field, and the origin.

        Raises
        ------
        InputError
            It cannot be estimated, or its file does not fit the images.
        """
        options, count = self.options, len(self.layout.views)
        if options.log:
            return (1.0,) * count, "--log"
        if isinstance(options.counts, Path):
            every = read_levels(options.counts, self.source.stack.shape[0])
            return tuple(every[v.index] for v in self.layout.views), options.counts.name
        if isinstance(options.counts, int | float):
            return (float(options.counts),) * count, "--counts"
        if self.fields.flat is not None and options.counts is None:
            return (1.0,) * count, "the flat field"
        exposures = self._exposures()
        found = self._estimated(None if exposures is None else exposures.values)
        self._name_those_apart(found)
        if found.how == "vacuum":
            if exposures is None:
                self._warn_of_rising(found)
            return tuple(found.per_view), "estimated: vacuum beside the specimen"
        if exposures is None:
            # Simulated tissue: the beam's logarithm is too small by d at zero tilt and by 2 d at 60
            # degrees for a dose that is there 1 + d times that at zero tilt, whatever the thickness.
            self.record.warnings.append(
                "the beam is estimated as if all views had the same dose, which no file says: a dose "
                "that rises by 10 % to 60 degrees makes line integrals too small by 0.1 to 0.2; then "
                "give --counts FILE with the beam of each view"
            )
        elif exposures.filled:
            views = self._numbers(exposures.filled)
            self.record.warnings.append(
                f"the mdoc has no {exposures.what} of views {views}; for the beam it is taken from "
                f"{exposures.how}: better give --counts FILE with the beam of each view"
            )
        how = "mean against 1/cos, good to some 10 %; better give --counts I0"
        return tuple(found.per_view), f"estimated: {how}"

    def _name_those_apart(self, found: Levels) -> None:
        """Record which views have a beam that is not that of the others."""
        if 0 < len(found.outliers) <= _FEW_OUTLIERS * len(found.per_view):
            self.record.warnings.append(
                f"the beam of views {self._numbers(found.outliers)} does not fit that of the others; "
                "that of the others is used"
            )
        if found.own:
            low, high = (f(found.gains[i] for i in found.own) for f in (min, max))
            shares = f"{low:.3g}" if len(found.own) == 1 else f"{low:.3g} to {high:.3g}"
            self.record.say(
                f"beam of views {self._numbers(found.own)}",
                f"{shares} of that of the others",
                "the vacuum of each",
            )

    def _warn_of_rising(self, found: Levels) -> None:
        """Warn of levels that rise with the tilt: a thin part of the specimen would hide in that."""
        gains, tilts = np.log(found.gains), np.abs(self.angles)
        least, steep = np.quantile(tilts, [1 / 3, 2 / 3])
        rise = float(np.median(gains[tilts >= steep]) - np.median(gains[tilts <= least]))
        # Errors of medians over a third of the views each.
        error = 1.25 * found.scatter * float(np.sqrt(6 / len(gains)))
        if rise > max(_RISES, _ERRORS * error):
            self.record.warnings.append(
                f"the level of the vacuum rises with the tilt, by some {100 * np.expm1(rise):.2g} %; it "
                "is taken for a dose that does so, which no file says: --counts FILE gives each beam"
            )

    def _numbers(self, views: Sequence[int]) -> str:
        """Numbers of the first few views in the source."""
        shown = ", ".join(str(self.layout.views[i].index + 1) for i in views[:_NAMED])
        return f"{shown}, ..." if len(views) > _NAMED else shown

    def _estimated(self, exposures: Sequence[float] | None) -> Levels:
        images = [self._thumbnail(s) for s in self.statistics]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # views without a pixel
            means = [float(np.nanmean(image)) for image in images]
            quantiles = [np.nanquantile(image, LEVEL_PROBABILITIES) for image in images]
        return estimate_levels(
            means,
            self.angles,
            np.array(quantiles),
            probabilities=LEVEL_PROBABILITIES,
            exposures=exposures,
            order=self.order,
        )

    def warn_of(self, levels: Sequence[float]) -> None:
        """Warn of a beam that the values contradict."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # views without a pixel
            through = [
                float(np.nanmedian(self._thumbnail(s))) / level
                for s, level in zip(self.statistics, levels, strict=True)
            ]
        usual = float(np.nanmedian(through))
        if usual > _BRIGHTEST:
            self.record.warnings.append(
                f"most pixels are brighter than the beam (a transmission of {usual:.3g}), so line "
                "integrals are negative: see --counts, --dark and --flat"
            )
        elif usual < _DIMMEST:
            self.record.warnings.append(
                f"hardly anything of the beam is left (a transmission of {usual:.2g}): see --counts"
            )

    def _thumbnail(self, statistics: ViewStatistics) -> Floats:
        """A small image without the dark field, and divided by the flat field where there is one."""
        block, small = statistics.block, statistics.thumbnail.astype(np.float64)
        dark = _small(self.fields.dark, block, small.shape)
        if self.fields.flat is None:
            return small - dark
        return (small - dark) / np.maximum(
            _small(self.fields.flat, block, small.shape) - dark, 1e-9
        )


def _small(reference: Reference | None, block: int, shape: tuple[int, ...]) -> float | Floats:
    """Means of a reference over the blocks of a thumbnail."""
    if reference is None:
        return 0.0
    if not isinstance(reference.value, np.ndarray):
        return reference.value
    (height, width), (rows, columns) = reference.value.shape, shape
    tall, wide = min(block, height), min(block, width)
    cut = reference.value[: rows * tall, : columns * wide].astype(np.float64)
    return np.asarray(cut.reshape(rows, tall, columns, wide).mean(axis=(1, 3)))
