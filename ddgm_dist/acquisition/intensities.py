"""From stored values to line integrals: logarithm, dark and flat fields, the beam of each view."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.acquisition.layout import Layout
from ddgm_dist.acquisition.options import IngestOptions
from ddgm_dist.acquisition.prepared import Reference
from ddgm_dist.acquisition.reference_files import read_levels, read_reference
from ddgm_dist.acquisition.sources import FRAMES, Source
from ddgm_dist.acquisition.survey import mean_frame
from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.readers.serialem.mdoc import MdocSection
from ddgm_dist.tilts.provenance import Provenance
from ddgm_dist.views.brightest import LEVEL_PROBABILITIES
from ddgm_dist.views.counts_evidence import looks_like_counts
from ddgm_dist.views.levels import Levels, estimate_levels
from ddgm_dist.views.poisson import estimate_gain, poisson_sigma
from ddgm_dist.views.statistics import ViewStatistics

__all__ = ["Intensities", "dark_level", "decide_intensities"]

# Transmissions that no specimen in a beam has, and share of pixels without a count that is worth a word.
_BRIGHTEST, _DIMMEST, _MANY_FLOORED = 1.1, 1e-3, 0.01
# Views whose beam stands out are named if they are at most this share.
_FEW_OUTLIERS = 0.15
# Edge of the boxes, and number of the views, that the gain is estimated from.
_BOX, _SAMPLES = 512, 8

_NOT_CONVERTED = "nothing was asked for"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Intensities:
    """Conversion of the values of each view.

    Attributes
    ----------
    levels
        Counts of the beam without a specimen, for each view; None where no logarithm is taken. With a
        flat field it is the transmission without a specimen.
    floored
        Pixels of each view without a count.
    dead
        Pixels of the fields that say nothing of a beam; they are unmeasured in all views.
    dark, flat
        To be subtracted, and to be divided by; None for none.
    dark_level
        Constant that is subtracted where no logarithm is taken.
    sigma_y
        Noise of each view's line integrals by the counts; None where it is unknown.
    gain
        Counts of one quantum; 0 where it is unknown, or no logarithm is taken.
    may_have_offset
        A constant in all pixels would be one to be subtracted. It is none where a logarithm is taken, or
        where counts are kept as they are.
    """

    levels: tuple[float | None, ...]
    floored: tuple[int, ...]
    dark: Reference | None = None
    flat: Reference | None = None
    dark_level: float = 0.0
    sigma_y: tuple[float, ...] | None = None
    gain: float = 0.0
    dead: int = 0
    may_have_offset: bool = False


def decide_intensities(
    source: Source,
    layout: Layout,
    statistics: Sequence[ViewStatistics],
    options: IngestOptions,
    record: Provenance,
) -> Intensities:
    """Decide how values are converted, by the options, the source and the values themselves.

    Parameters
    ----------
    source, layout, statistics
        The source, the views that are kept, and their statistics in the same order.
    options
        Options of the ingest.
    record
        Takes what is done, and a warning where values look like counts and are not converted.

    Raises
    ------
    InputError
        The beam cannot be estimated, or a file does not fit the images.
    """
    return _Decision(source, layout, statistics, options, record).made()


def dark_level(source: Source, options: IngestOptions) -> float:
    """Value without a beam, on average over the pixels."""
    found = _dark_field(source, options)[0]
    return 0.0 if found is None else float(np.nanmean(found.value))


class _Decision:
    """Everything that decides on the conversion."""

    def __init__(
        self,
        source: Source,
        layout: Layout,
        statistics: Sequence[ViewStatistics],
        options: IngestOptions,
        record: Provenance,
    ) -> None:
        self.source, self.layout, self.statistics = source, layout, statistics
        self.options, self.record = options, record
        self.dark, self.dark_from = _dark_field(source, options)
        self.flat, self.flat_from = self._flat()
        self.angles = [view.angle_deg for view in layout.views]

    def made(self) -> Intensities:
        """The decision."""
        options, record = self.options, self.record
        wanted, why = self._logarithm()
        if not wanted:
            if options.flat is not None:
                raise InputError(
                    "flat",
                    str(options.flat),
                    f"is of no use where values are taken as they are ({why})",
                )
            level = self.dark.value if self.dark is not None else 0.0
            if self.dark is not None and not (isinstance(level, float) and level == 0):
                record.say("vacuum", _value(self.dark), self.dark_from)
            counts = why == _NOT_CONVERTED
            what = "NOT converted, though they look like counts" if counts else "taken as they are"
            record.say("values", what, why)
            if self.source.flat is not None and self.flat is None:
                record.skip("flat frames of the source", f"values are taken as they are ({why})")
            count = len(self.layout.views)
            return Intensities(
                (None,) * count,
                (0,) * count,
                self.dark,
                dark_level=level if isinstance(level, float) else 0.0,
                may_have_offset=why != _NOT_CONVERTED,
            )
        if self.dark is not None:
            record.say("dark field", _value(self.dark), self.dark_from)
        if self.flat is not None:
            record.say("flat field", _value(self.flat), self.flat_from)
        levels, origin = self._levels()
        low, high = min(levels), max(levels)
        what = "transmission of the beam" if self.flat is not None else "counts of the beam"
        shown = f"{low:.5g}" if low == high else f"{low:.5g} to {high:.5g}, by view"
        record.say(what, shown, origin)
        record.say("values", "-log(counts / beam)", why)
        self._warn_of_levels(levels)
        gain, sigma_y = (None, None) if options.log else self._noise()
        if gain is None and not options.log and self.source.stack.dtype.kind in "iu":
            gain = 1.0  # whole numbers are counts of something
        floored = tuple(s.zeros for s in self.statistics)
        self._warn_of_floored(floored)
        return Intensities(
            levels,
            floored,
            self.dark,
            self.flat,
            sigma_y=sigma_y,
            gain=gain or 0.0,
            dead=self._dead(),
        )

    def _dead(self) -> int:
        """Number of pixels of the fields that say nothing of a beam."""
        dark = np.zeros(()) if self.dark is None else np.asarray(self.dark.value)
        good = np.isfinite(dark)
        if self.flat is not None:
            flat = np.asarray(self.flat.value)
            good = good & np.isfinite(flat) & (flat > dark)
        count = int(good.size - np.count_nonzero(good))
        if count:
            self.record.say("dead pixels of the fields", f"{count}, unmeasured", "dark and flat")
        return count

    def _warn_of_levels(self, levels: Sequence[float]) -> None:
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

    def _warn_of_floored(self, floored: Sequence[int]) -> None:
        _, height, width = self.source.stack.shape
        share = sum(floored) / (len(floored) * height * width)
        if share > _MANY_FLOORED and self.options.bin == 1:
            self.record.warnings.append(
                f"{100 * share:.3g} % of the pixels have no count, which no logarithm measures: add "
                "pixels up with --bin"
            )

    def _logarithm(self) -> tuple[bool, str]:
        """Return whether the logarithm is taken, and why."""
        asked = self._asked()
        if asked is not None:
            return asked
        found = looks_like_counts(
            self._means(), self.angles, order=self._order(), exposures=self._exposures()
        )
        if found is None:
            return False, "assumed: their mean does not fall with tilt"
        law = f"their mean falls as exp(-{found.thickness:.2g} / cos)"
        if self.layout.counts_by:
            self.record.warnings.append(
                f"values are taken for counts: {law}, and {self.layout.counts_by} says so too; give "
                "--counts none to keep them"
            )
            return True, f"{law}; {self.layout.counts_by}"
        self.record.warnings.append(
            f"these look like counts ({law}): give --counts auto, or --counts none if they are not"
        )
        return False, _NOT_CONVERTED

    def _asked(self) -> tuple[bool, str] | None:
        """Return whether the options or the source ask for the logarithm; None if they say nothing."""
        options = self.options
        found: list[tuple[bool, str] | None] = [
            (True, "--log") if options.log else None,
            (False, "--polarity bright") if options.polarity == "bright" else None,
            None
            if options.counts is None
            else (options.counts != "none", f"--counts {options.counts}"),
            (True, "--polarity dark") if options.polarity == "dark" else None,
            None if self.flat is None else (True, f"a flat field ({self.flat_from})"),
        ]
        return next((answer for answer in found if answer is not None), None)

    def _levels(self) -> tuple[tuple[float, ...], str]:
        """Beam of each view, and where it comes from."""
        options, count = self.options, len(self.layout.views)
        if options.log:
            return (1.0,) * count, "--log"
        if isinstance(options.counts, Path):
            every = read_levels(options.counts, self.source.stack.shape[0])
            return tuple(every[v.index] for v in self.layout.views), options.counts.name
        if isinstance(options.counts, int | float):
            return (float(options.counts),) * count, "--counts"
        if self.flat is not None and options.counts is None:
            return (1.0,) * count, "the flat field"
        found = self._estimated()
        vacuum = found.how == "vacuum"
        how = "vacuum beside the specimen"
        if not vacuum:
            how = "mean against 1/cos, good to some 10 %; better give --counts I0"
        if 0 < len(found.outliers) <= _FEW_OUTLIERS * len(found.per_view):
            views = ", ".join(str(self.layout.views[i].index + 1) for i in found.outliers[:5])
            self.record.warnings.append(
                f"the beam of views {views} does not fit that of the others; that of the others is used"
            )
        return tuple(found.per_view), f"estimated: {how}"

    def _estimated(self) -> Levels:
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
            exposures=self._exposures(),
            order=self._order(),
        )

    def _thumbnail(self, statistics: ViewStatistics) -> Floats:
        """A small image without the dark field, and divided by the flat field where there is one."""
        block, small = statistics.block, statistics.thumbnail.astype(np.float64)
        dark = _small(self.dark, block, small.shape)
        if self.flat is None:
            return small - dark
        return (small - dark) / np.maximum(_small(self.flat, block, small.shape) - dark, 1e-9)

    def _means(self) -> list[float]:
        dark = 0.0 if self.dark is None else float(np.nanmean(self.dark.value))
        return [s.mean - dark for s in self.statistics]

    def _order(self) -> list[int] | None:
        """Rank of each view in the order of recording, which is that of an mdoc's stack."""
        return None if self.source.mdoc is None else [v.index for v in self.layout.views]

    def _exposures(self) -> list[float] | None:
        """Dose of each view, where the mdoc has all of them."""
        mdoc = self.source.mdoc
        if mdoc is None:
            return None
        sections: Sequence[MdocSection | None] = mdoc.sections
        if self.source.kind != FRAMES:
            sections = mdoc.by_stack(self.source.stack.shape[0])
        doses = list[float]()
        for view in self.layout.views:
            section = sections[view.index]
            if section is None or not section.exposure_dose or section.exposure_dose <= 0:
                return None
            doses.append(section.exposure_dose)
        return doses

    def _noise(self) -> tuple[float | None, tuple[float, ...] | None]:
        """Counts of one quantum, and the noise of each view by them; None where there are no quanta."""
        stack, views = self.source.stack, self.layout.views
        _, height, width = stack.shape
        top, left = max(0, (height - _BOX) // 2), max(0, (width - _BOX) // 2)
        bottom, right = min(height, top + _BOX), min(width, left + _BOX)
        chosen = {views[i].index for i in np.linspace(0, len(views) - 1, _SAMPLES).astype(int)}
        images = [
            stack.read(Box((i, top, left), (i + 1, bottom, right)))[0] for i in sorted(chosen)
        ]
        part = slice(top, bottom), slice(left, right)
        dark = 0.0 if self.dark is None else float(np.nanmean(self.dark.part(*part)))
        gain = estimate_gain(images, dark)
        if gain is None:
            return None, None
        self.record.say("counts of one quantum", f"{gain.value:.3g}", "variance against mean")
        means = [max(mean, 0.0) for mean in self._means()]
        noise = tuple(s / self.options.bin for s in poisson_sigma(means, gain.value))
        return gain.value, noise

    def _above_dark(self, flat: Reference) -> Reference:
        """The flat field, which must be above the dark one somewhere."""
        dark = 0.0 if self.dark is None else self.dark.value
        if not np.any(np.asarray(flat.value) > np.asarray(dark)):
            raise InputError(
                "flat",
                _value(flat),
                "is nowhere above the dark field, so it says nothing of a beam",
            )
        return flat

    def _flat(self) -> tuple[Reference | None, str]:
        given, size = self.options.flat, self.source.stack.shape[1:]
        if given is not None and isinstance(self.options.counts, int | float | Path):
            raise InputError(
                "flat", str(given), "is what the beam makes, and so is --counts: give one of them"
            )
        if given is not None:
            if isinstance(given, Path):
                return self._above_dark(read_reference(given, size, "flat")), given.name
            return self._above_dark(_number("flat", given)), "--flat"
        if isinstance(self.options.counts, int | float | Path):
            if self.source.flat is not None:
                self.record.skip("flat frames of the source", "--counts says what the beam is")
            return None, ""
        if self.source.flat is not None and self.options.counts in (None, "auto"):
            count = self.source.flat.shape[0]
            return Reference(mean_frame(self.source.flat)), f"mean of {count} flat frames"
        return None, ""


def _dark_field(source: Source, options: IngestOptions) -> tuple[Reference | None, str]:
    """The dark field, and where it comes from."""
    given, size = options.dark, source.stack.shape[1:]
    if isinstance(given, Path):
        return read_reference(given, size, "dark"), given.name
    if given is not None:
        return _number("dark", given), "--dark"
    if source.dark is not None and options.counts != "none":
        return Reference(mean_frame(source.dark)), f"mean of {source.dark.shape[0]} dark frames"
    if source.dark_level:
        return _number("dark", source.dark_level), Path(source.path).name
    return None, ""


def _number(argument: str, value: float) -> Reference:
    if not abs(value) <= float(np.finfo(np.float32).max):
        raise InputError(argument, value, "must be a number of float32", "leave it out for none")
    return Reference(float(value))


def _value(reference: Reference) -> str:
    """A reference for the table."""
    if isinstance(reference.value, np.ndarray):
        return f"image, mean {float(np.nanmean(reference.value)):.5g}"
    return f"{reference.value:.5g}"


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
