"""Shifts between views of neighbouring angles, by cross-correlation of their thumbnails.

Thumbnails are brought to the aligned frame, and stretched to what they would show at zero tilt: by
``1 / cos(theta)`` across the tilt axis. So neighbours differ by little but a shift. Slow variations are
removed, and the ends are tapered. The highest peak of the cross-correlation is the shift. Its height
above the rest, in standard deviations, says how much it can be relied on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter, map_coordinates

from ddgm_dist.views.affine import Affine
from ddgm_dist.views.statistics import ViewStatistics

__all__ = ["Neighbours", "Shift"]

# Steepest stretch; views beyond are hardly like their neighbours.
_LEAST_COSINE = 0.17
# Slow variations are longer than this share of the frame; noise is shorter than so many pixels.
_SLOW, _FAST = 0.06, 1.0
_TAPER = 0.1
# Values beyond so many deviations are cut off: beads and edges do not count for all.
_LARGEST = 3.0
# Share of the frame that shifts are searched in, to either side; pixels around a peak that belong to it.
_REACH, _PEAK = 0.45, 6

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shift:
    """Distance of the image of one view from that of another.

    Attributes
    ----------
    dy, dx
        Of the first view against the second, pixels of the aligned view; the one across the
        tilt axis as it would be at zero tilt.
    height
        Height of the correlation's peak above its mean, in its standard deviations.
    """

    dy: float
    dx: float
    height: float


class Neighbours:
    """Correlates views with each other; each pair once.

    Parameters
    ----------
    statistics, angles_deg, affines
        One of each for each view.
    shape
        Rows and columns of the views.
    stretch
        Direction across the tilt axis: ``x`` along columns, ``y`` along rows, None to stretch nothing.

    Attributes
    ----------
    block
        Pixels of the view per pixel that is correlated.
    """

    def __init__(
        self,
        statistics: Sequence[ViewStatistics],
        angles_deg: Sequence[float],
        affines: Sequence[Affine],
        shape: tuple[int, int],
        stretch: str | None = "x",
    ) -> None:
        self._views, self._affines, self._shape = statistics, affines, shape
        self.block = max(view.block for view in statistics)
        self._size = max(16, math.ceil(max(shape) / self.block))
        self._cosines = [max(_LEAST_COSINE, abs(math.cos(math.radians(a)))) for a in angles_deg]
        self.stretch = stretch
        self._spectra = dict[int, NDArray[np.complex128]]()
        self._shifts = dict[tuple[int, int], Shift]()

    def shift(self, view: int, other: int) -> Shift:
        """Shift of a view against another one."""
        if view > other:
            found = self.shift(other, view)
            return Shift(-found.dy, -found.dx, found.height)
        if (view, other) not in self._shifts:
            self._shifts[view, other] = self._correlate(self._spectrum(view), self._spectrum(other))
        return self._shifts[view, other]

    def cosine(self, view: int) -> float:
        """Factor from shifts as they would be at zero tilt to those in the view, across the axis."""
        return 1.0 if self.stretch is None else self._cosines[view]

    def _correlate(self, one: NDArray[np.complex128], two: NDArray[np.complex128]) -> Shift:
        size = self._size
        power = math.sqrt(_energy(one) * _energy(two))
        if power == 0:
            return Shift(0.0, 0.0, 0.0)
        whole = np.fft.fftshift(irfft2(one * two.conj(), s=(size, size)) / power)
        middle, reach = size // 2, max(2, int(_REACH * size))
        part = whole[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]
        y, x = (int(i) for i in np.unravel_index(int(np.argmax(part)), part.shape))
        rest = np.ones(part.shape, dtype=bool)
        rest[max(0, y - _PEAK) : y + _PEAK + 1, max(0, x - _PEAK) : x + _PEAK + 1] = False
        spread = float(part[rest].std()) if rest.any() else 0.0
        height = float(part[y, x] - part[rest].mean()) / spread if spread > 0 else 0.0
        dy = y + _vertex(part[:, x], y) - reach
        dx = x + _vertex(part[y, :], x) - reach
        return Shift(dy * self.block, dx * self.block, height)

    def _spectrum(self, view: int) -> NDArray[np.complex128]:
        if view not in self._spectra:
            self._spectra[view] = rfft2(self._frame(view))
        return self._spectra[view]

    def _frame(self, view: int) -> Floats:
        """The view's thumbnail in the aligned frame at zero tilt, without slow variations."""
        statistics, size = self._views[view], self._size
        ahead = (np.arange(size) - (size - 1) / 2) * self.block
        x, y = np.meshgrid(ahead, ahead)
        if self.stretch == "x":
            x = x * self._cosines[view]
        elif self.stretch == "y":
            y = y * self._cosines[view]
        back = self._affines[view].inverse()
        rows, columns = self._shape
        column = back.a11 * x + back.a12 * y + back.dx + (columns - 1) / 2
        row = back.a21 * x + back.a22 * y + back.dy + (rows - 1) / 2
        block = statistics.block
        at = np.stack([(row + 0.5) / block - 0.5, (column + 0.5) / block - 0.5])
        thumbnail = statistics.thumbnail.astype(np.float64)
        there = np.isfinite(thumbnail)
        if not there.any():
            return np.zeros((size, size))
        filled = np.where(there, thumbnail, thumbnail[there].mean())
        values = map_coordinates(filled, at, order=1, mode="nearest")
        inside = map_coordinates(there.astype(np.float64), at, order=1, mode="constant") > 0.99
        return _whitened(values, inside)


def _whitened(values: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Without slow variations and single pixels' noise, of unit deviation, and zero where unmeasured."""
    weight = inside.astype(np.float64)
    slow = max(2.0, _SLOW * len(values))
    near = gaussian_filter(weight, slow, mode="constant")
    level = gaussian_filter(values * weight, slow, mode="constant") / np.maximum(near, 1e-6)
    fine: Floats = gaussian_filter((values - level) * weight, _FAST, mode="constant")
    if not inside.any():
        return fine
    spread = float(np.median(np.abs(fine[inside]))) / 0.6745
    if spread <= 0:
        spread = float(fine[inside].std())
    if spread <= 0:
        return np.zeros_like(fine)
    fine = np.clip(fine / spread, -_LARGEST, _LARGEST)
    # The taper follows the ends of what was measured.
    soft = gaussian_filter(weight, max(1.0, _TAPER * len(values) / 3), mode="constant")
    taper: Floats = np.clip(2 * soft - 1, 0, 1) * weight
    taken = fine * taper
    even: Floats = taken - taper * (taken.sum() / max(float(taper.sum()), 1e-9))
    return even


def _energy(spectrum: NDArray[np.complex128]) -> float:
    """Sum of squares of the image that a half spectrum describes."""
    squares = np.square(np.abs(spectrum))
    size = spectrum.shape[0]
    inner = float(squares[:, 1 : (size + 1) // 2].sum())
    ends = float(squares.sum()) - inner
    return (2 * inner + ends) / float(size) ** 2


def _vertex(line: Floats, at: int) -> float:
    """Offset of the vertex of the parabola through a peak and the pixels beside it."""
    if not 0 < at < len(line) - 1:
        return 0.0
    left, middle, right = (float(line[at + k]) for k in (-1, 0, 1))
    curve = left - 2 * middle + right
    return 0.5 * (left - right) / curve if curve < 0 else 0.0
