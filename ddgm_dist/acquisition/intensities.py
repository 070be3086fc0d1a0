"""From stored values to line integrals: whether the logarithm is taken, and of what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ddgm_dist.acquisition.beam import Beam
from ddgm_dist.acquisition.fields import Fields, describe_field
from ddgm_dist.acquisition.layout import Layout
from ddgm_dist.acquisition.options import IngestOptions
from ddgm_dist.acquisition.prepared import Reference
from ddgm_dist.acquisition.source import Source
from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError
from ddgm_dist.tilts.provenance import Provenance
from ddgm_dist.views.counts_evidence import looks_like_counts
from ddgm_dist.views.poisson import estimate_gain, poisson_sigma
from ddgm_dist.views.resample import share_inside
from ddgm_dist.views.statistics import ViewStatistics

__all__ = ["Intensities", "decide_intensities"]

# Share of pixels without a count that is worth a word.
_MANY_FLOORED = 0.01
# Edge of the boxes, and number of the views, that the gain is estimated from.
_BOX, _SAMPLES = 512, 8

_NOT_CONVERTED = "nothing was asked for"


@dataclass(frozen=True)
class Intensities:
    """Conversion of the values of each view.

    Attributes
    ----------
    levels
        Counts of the beam without a specimen, for each view; None where no logarithm is taken. With a
        flat field it is the transmission without a specimen.
    floored
        Pixels of each view without a count, of those that are used.
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
        A constant in all pixels would be a fault. It is none where values that look like counts are kept
        as they are, nor where the user asked for that.
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
    fields: Fields,
    options: IngestOptions,
    record: Provenance,
) -> Intensities:
    """Decide how values are converted, by the options, the source and the values themselves.

    Parameters
    ----------
    source, layout, statistics
        The source, the views that are kept, and their statistics in the same order.
    fields
        Dark and flat fields.
    options
        Options of the ingest.
    record
        Takes what is done, and a warning where values look like counts and are not converted.

    Raises
    ------
    InputError
        The beam cannot be estimated, or a file does not fit the images.
    """
    return _Decision(Beam(source, layout, statistics, options, fields, record)).made()


class _Decision:
    """Everything that decides on the conversion."""

    def __init__(self, beam: Beam) -> None:
        self.beam, self.fields = beam, beam.fields
        self.source, self.layout, self.statistics = beam.source, beam.layout, beam.statistics
        self.options, self.record = beam.options, beam.record

    def made(self) -> Intensities:
        """The decision."""
        options, record = self.options, self.record
        wanted, why = self._logarithm()
        if not wanted:
            return self._as_they_are(why)
        fields = self.fields
        if fields.dark is not None:
            record.say("dark field", describe_field(fields.dark), fields.dark_from)
        if fields.flat is not None:
            record.say("flat field", describe_field(fields.flat), fields.flat_from)
        levels, origin = self.beam.levels()
        low, high = min(levels), max(levels)
        what = "transmission of the beam" if fields.flat is not None else "counts of the beam"
        shown = f"{low:.5g}" if low == high else f"{low:.5g} to {high:.5g}, by view"
        record.say(what, shown, origin)
        record.say("values", "-log(counts / beam)", why)
        self.beam.warn_of(levels)
        gain, sigma_y = (None, None) if options.log else self._noise()
        if gain is None and not options.log and self.source.stack.dtype.kind in "iu":
            gain = 1.0  # whole numbers are counts of something
        if fields.dead:
            record.say("dead pixels of the fields", f"{fields.dead}, unmeasured", "dark and flat")
        return Intensities(
            levels,
            self._floored(),
            fields.dark,
            fields.flat,
            sigma_y=sigma_y,
            gain=gain or 0.0,
            dead=fields.dead,
            may_have_offset=True,
        )

    def _as_they_are(self, why: str) -> Intensities:
        """Values without a logarithm, and why there is none."""
        options, record, fields = self.options, self.record, self.fields
        if options.flat is not None:
            raise InputError(
                "flat",
                str(options.flat),
                f"is of no use where values are taken as they are ({why})",
            )
        level = fields.dark.value if fields.dark is not None else 0.0
        if fields.dark is not None and not (isinstance(level, float) and level == 0):
            record.say("vacuum", describe_field(fields.dark), fields.dark_from)
        counts = why == _NOT_CONVERTED
        what = "NOT converted, though they look like counts" if counts else "taken as they are"
        record.say("values", what, why)
        if self.source.flat is not None and fields.flat is None:
            record.skip("flat frames of the source", f"values are taken as they are ({why})")
        count = len(self.layout.views)
        # Of values that stay as they are at the user's wish nothing is known, not even that they add up.
        asked = options.counts == "none"
        return Intensities(
            (None,) * count,
            (0,) * count,
            fields.dark,
            dark_level=level if isinstance(level, float) else 0.0,
            may_have_offset=not (counts or asked),
        )

    def _floored(self) -> tuple[int, ...]:
        """Pixels of each view that are used and have no count; warns of many."""
        options, layout = self.options, self.layout
        floored = tuple(s.zeros for s in self.statistics)
        count = sum(floored)
        if not count:
            return floored
        b = options.bin
        how = "taken for half a quantum, or 1e-4 of the beam if that is more"
        if b > 1:
            how = f"of the source, {b} x {b} of which are added before the logarithm"
        self.record.say("pixels without a count", f"{count}, in what is stored", how)
        _, height, width = self.source.stack.shape
        before = (height // b, width // b)
        part = slice(layout.y.start, layout.y.stop), slice(layout.u.start, layout.u.stop)
        seen = sum(share_inside(v.affine, before, layout.size, part) for v in layout.views)
        share = count / max(1.0, seen * len(layout.y) * len(layout.u))
        if share > _MANY_FLOORED and b == 1:
            self.record.warnings.append(
                f"{100 * share:.3g} % of the pixels have no count, which no logarithm measures: add "
                "pixels up with --bin"
            )
        return floored

    def _logarithm(self) -> tuple[bool, str]:
        """Return whether the logarithm is taken, and why."""
        asked = self._asked()
        if asked is not None:
            return asked
        beam = self.beam
        found = looks_like_counts(
            beam.means, beam.angles, order=beam.order, exposures=beam.exposures
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
            None if self.fields.flat is None else (True, f"a flat field ({self.fields.flat_from})"),
        ]
        return next((answer for answer in found if answer is not None), None)

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
        dark = self.fields.dark
        offset = 0.0 if dark is None else float(np.nanmean(dark.part(*part)))
        gain = estimate_gain(images, offset)
        if gain is None:
            return None, None
        self.record.say("counts of one quantum", f"{gain.value:.3g}", "variance against mean")
        means = [max(mean, 0.0) for mean in self.beam.means]
        noise = tuple(s / self.options.bin for s in poisson_sigma(means, gain.value))
        return gain.value, noise
