"""The views of a source as they are stored: corrected, binned, aligned and cropped, box by box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box, Triple
from ddgm_dist.readers.base import VolumeSource, check_box
from ddgm_dist.views.affine import Affine
from ddgm_dist.views.binning import bin_view
from ddgm_dist.views.counts import line_integrals
from ddgm_dist.views.despike import MARGIN, despike
from ddgm_dist.views.resample import covers, moves_pixels, resample

__all__ = ["PreparedView", "PreparedViews", "Reference"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """An image that belongs to all views, such as a dark field, or one number for all pixels.

    Attributes
    ----------
    value
        A number, or an image ``(row, column)`` of the size of the source's.
    """

    value: float | Floats

    def part(self, rows: slice, columns: slice) -> float | Floats:
        """The value over a part of the image."""
        return self.value[rows, columns] if isinstance(self.value, np.ndarray) else self.value


@dataclass(frozen=True)
class PreparedView:
    """One view of the series.

    Attributes
    ----------
    index
        Its place in the source, from 0.
    affine
        Map from the binned image to the stored one.
    threshold
        Distance by which hot pixels stand out; None where none is imputed.
    level
        Counts of the beam without a specimen; None where no logarithm is taken.
    """

    index: int
    affine: Affine
    threshold: float | None = None
    level: float | None = None


@dataclass(frozen=True)
class PreparedViews:
    """All views of the series as a volume source ``(tilt, y, u)`` that can be pickled.

    Attributes
    ----------
    stack
        Source ``(view, row, column)``.
    views
        Views of the series, in its order.
    size
        Rows and columns of the aligned images, before cropping.
    y, u
        Rows and columns that are kept of them.
    bin
        Pixels of the source along an edge of a pixel of the series.
    dark, flat
        Images or numbers to subtract from and to divide counts by; None for none.
    gain
        Counts of one quantum; 0 where it is unknown. Pixels without a count are taken for half of one.
    dead_rows, dead_columns
        Lines of the source's images that are unmeasured in all views.
    by_view
        It is better read view by view than row by row.
    """

    stack: VolumeSource
    views: tuple[PreparedView, ...]
    size: tuple[int, int]
    y: range
    u: range
    bin: int = 1
    dark: Reference | None = None
    flat: Reference | None = None
    gain: float = 0.0
    dead_rows: tuple[int, ...] = ()
    dead_columns: tuple[int, ...] = ()
    by_view: bool = False

    @property
    def shape(self) -> Triple:
        """Views, rows and columns of the series."""
        return (len(self.views), len(self.y), len(self.u))

    @property
    def is_plain(self) -> bool:
        """True if pixels are only cropped and moved, and keep their values."""
        return (
            self.bin == 1
            and self.dark is None
            and not self.has_dead
            and all(v.level is None and v.threshold is None for v in self.views)
            and not self.is_resampled
        )

    @property
    def has_dead(self) -> bool:
        """True if lines of the detector are unmeasured."""
        return bool(self.dead_rows or self.dead_columns)

    @property
    def is_resampled(self) -> bool:
        """True if pixels are interpolated."""
        return any(not moves_pixels(v.affine, self._binned(), self.size) for v in self.views)

    @property
    def has_outside(self) -> bool:
        """True if a view may leave a part of the stored image unmeasured."""
        return any(not covers(v.affine, self._binned(), self.size) for v in self.views)

    def read(self, box: Box) -> Floats:
        """The values of a box, float32; NaN where nothing was measured.

        Raises
        ------
        IndexError
            The box reaches outside the series.
        """
        check_box(box, self.shape)
        rows, columns = (
            slice(part[box.start[axis]], part[box.stop[axis] - 1] + 1)
            for axis, part in ((1, self.y), (2, self.u))
        )
        out = np.empty(box.shape, dtype=np.float32)
        for i, view in enumerate(self.views[box.start[0] : box.stop[0]]):
            out[i] = self.read_view(view, rows, columns)
        return out

    def read_view(self, view: PreparedView, rows: slice, columns: slice) -> Floats:
        """A part of one aligned image, before cropping."""

        def binned(rows: slice, columns: slice) -> Floats:
            return self._corrected(view, rows, columns)

        if view.affine.is_identity and self._binned() == self.size:
            return binned(rows, columns)
        return resample(binned, self._binned(), self.size, view.affine, (rows, columns))

    def _binned(self) -> tuple[int, int]:
        _, height, width = self.stack.shape
        return (height // self.bin, width // self.bin)

    def _corrected(self, view: PreparedView, rows: slice, columns: slice) -> Floats:
        """A part of a binned image: line integrals, not aligned yet."""
        rows = slice(rows.start * self.bin, rows.stop * self.bin)
        columns = slice(columns.start * self.bin, columns.stop * self.bin)
        values = self._stored(view, rows, columns)
        dark = None if self.dark is None else self.dark.part(rows, columns)
        if view.level is None:
            if dark is not None:
                values -= np.float32(dark) if isinstance(dark, float) else dark
            return bin_view(values, self.bin, "mean")
        if self.flat is None:
            if dark is not None:
                values -= np.float32(dark) if isinstance(dark, float) else dark
            counts = bin_view(values, self.bin, "sum")
            return line_integrals(counts, view.level * self.bin**2, gain=self.gain)[0]
        flat = self.flat.part(rows, columns)
        bright = np.broadcast_to(np.asarray(flat, np.float32), values.shape)
        empty = np.zeros_like(values) if dark is None else np.broadcast_to(dark, values.shape)
        counts = bin_view(values - empty, self.bin, "sum")
        beam = bin_view(bright - empty, self.bin, "sum")
        return line_integrals(counts, view.level, flat=beam, gain=self.gain)[0]

    def _stored(self, view: PreparedView, rows: slice, columns: slice) -> Floats:
        """A part of an image as it is in the source, without hot pixels and dead lines.

        NaN where a pixel is not finite or its line is dead.
        """
        _, height, width = self.stack.shape
        margin = 0 if view.threshold is None else MARGIN
        top, bottom = max(0, rows.start - margin), min(height, rows.stop + margin)
        left, right = max(0, columns.start - margin), min(width, columns.stop + margin)
        i = view.index
        values: Floats = self.stack.read(Box((i, top, left), (i + 1, bottom, right)))[0]
        if self.stack.dtype.kind == "f":
            values[~np.isfinite(values)] = np.nan
        inside = (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )
        clean = values[inside]
        if view.threshold is not None:
            clean = despike(values, view.threshold, inside)[0]
        if self.has_dead:
            clean = np.array(clean)
            clean[_within(self.dead_rows, rows)] = np.nan
            clean[:, _within(self.dead_columns, columns)] = np.nan
        return clean


def _within(lines: tuple[int, ...], part: slice) -> list[int]:
    """Lines of a part of an image, from its first one on."""
    return [line - part.start for line in lines if part.start <= line < part.stop]
