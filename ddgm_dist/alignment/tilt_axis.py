"""Direction of the tilt axis, from the series itself.

A tilt turns the specimen about the axis. By the Fourier slice theorem, the spectra of two views agree
along one line, which is parallel to the axis: their common line (Penczek et al. 1996, Ultramicroscopy
63, 205). Away from it, structures at different depths have moved apart. So the coherence of pairs of
views, each moved onto the other, is largest along the axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

__all__ = ["AxisEstimate", "estimate_axis"]

Floats = NDArray[np.float64]

# Angles between the views of a pair, degrees, and number of pairs and of views. Views that are
# closer agree in all directions, those farther apart in none.
_APART, _PAIRS, _VIEWS = (8.0, 30.0), 160, 60
# Frequencies that count, cycles per pixel: where tissue has contrast and moves enough.
_BAND = (0.02, 0.15)
_STEP_DEG, _NEAR_DEG = 0.5, 12.0
_LEAST_VIEWS, _LEAST_PAIRS = 7, 6
# Least edge of the images, pixels: of tissue, smaller ones show rather the directions of its structures.
_LEAST_EDGE = 112


@dataclass(frozen=True)
class AxisEstimate:
    """Direction of the tilt axis.

    Attributes
    ----------
    degrees
        From the vertical, counter-clockwise where rows count upwards, within [-90, 90). The opposite
        direction, 180 degrees off, is the same line.
    coherence
        Mean coherence along it.
    elsewhere
        Median of the mean coherence along all directions.
    """

    degrees: float
    coherence: float
    elsewhere: float

    @property
    def is_clear(self) -> bool:
        """True if the direction stands out from the others."""
        above = self.coherence - self.elsewhere
        # Simple specimens agree in all directions, and along the axis to what the noise leaves.
        perfect = 4 * (1 - self.coherence) < 1 - self.elsewhere
        return above > 0.1 and (self.coherence > 1.3 * self.elsewhere or perfect)


def estimate_axis(images: Sequence[Floats], angles_deg: Sequence[float]) -> AxisEstimate | None:
    """Estimate the direction of the tilt axis.

    Parameters
    ----------
    images
        Prepared views (`ddgm_dist.alignment.correlation.prepare`), ``(rows, columns)`` each.
    angles_deg
        Tilt angle of each view, degrees.

    Returns
    -------
    AxisEstimate
        None where the images are small, or too few views are some way apart in angle.
    """
    pairs = _pairs(angles_deg)
    if not images or min(images[0].shape) < _LEAST_EDGE:
        return None
    if len(images) < _LEAST_VIEWS or len(pairs) < _LEAST_PAIRS:
        return None
    coherence = _coherence(images, pairs)
    size = len(coherence)
    radius = np.arange(_BAND[0] * size, _BAND[1] * size)
    directions = np.arange(-90.0, 90.0, _STEP_DEG)
    along = np.array([_mean_along(coherence, radius, d) for d in directions])
    peak, usual = int(along.argmax()), float(np.median(along))
    # The middle of the upper part of the peak, for its top is ragged.
    reach = round(_NEAR_DEG / _STEP_DEG)
    steps = np.arange(-reach, reach + 1)
    near = along[(peak + steps) % len(along)]
    weight = np.clip(near - usual - 0.6 * (along[peak] - usual), 0, None)
    total = float(weight.sum())
    middle = float((weight * steps).sum()) / total if total > 0 else 0.0
    degrees = float(directions[peak]) + _STEP_DEG * middle
    return AxisEstimate((degrees + 90) % 180 - 90, float(along[peak]), usual)


def _pairs(angles_deg: Sequence[float]) -> list[tuple[int, int]]:
    """Pairs of views to be compared, spread evenly over the series."""
    order = sorted(range(len(angles_deg)), key=lambda i: angles_deg[i])
    order = order[:: -(-len(order) // _VIEWS)]
    found = [
        (i, j)
        for a, i in enumerate(order)
        for j in order[a + 1 :]
        if _APART[0] <= angles_deg[j] - angles_deg[i] <= _APART[1]
    ]
    if len(found) <= _PAIRS:
        return found
    return [found[k] for k in np.linspace(0, len(found) - 1, _PAIRS).astype(int)]


def _coherence(images: Sequence[Floats], pairs: Sequence[tuple[int, int]]) -> Floats:
    """Coherence of the pairs by frequency, zero frequency in the middle."""
    squares = {i: _disks(images[i]) for i in {k for pair in pairs for k in pair}}
    size = fft.next_fast_len(2 * next(iter(squares.values())).shape[1])
    spectra = {i: fft.fft2(square, (size, size)) for i, square in squares.items()}
    ky, kx = fft.fftfreq(size)[:, None], fft.fftfreq(size)[None, :]
    common: Floats = np.zeros((size, size))
    power: Floats = np.zeros((size, size))
    for i, j in pairs:
        for one, other in zip(spectra[i], spectra[j], strict=True):
            cross = one * np.conj(other)
            found = fft.ifft2(cross).real
            dy, dx = np.unravel_index(int(found.argmax()), found.shape)
            common += (cross * np.exp(2j * np.pi * (ky * dy + kx * dx))).real
            power += np.abs(one) * np.abs(other)
    smooth, scale = (ndimage.gaussian_filter(a, 2, mode="wrap") for a in (common, power))
    return np.asarray(fft.fftshift(smooth / np.maximum(scale, 1e-12 * max(scale.max(), 1e-300))))


def _disks(image: Floats) -> NDArray[np.float32]:
    """Squares along the middle of a view, ``(square, y, x)``.

    They are faded out towards a circle, so that all directions see the same.
    """
    size = min(image.shape)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    fade = np.clip(2 * (1 - np.hypot(x, y) / (size / 2)), 0, 1)
    count = max(image.shape) // size
    top, left = ((n - size * (count if n > size else 1)) // 2 for n in image.shape)
    down, right = ((size if n > size else 0) for n in image.shape)
    starts = [(top + k * down, left + k * right) for k in range(count)]
    return np.array([image[r : r + size, c : c + size] * fade for r, c in starts], np.float32)


def _mean_along(coherence: Floats, radius: Floats, degrees: float) -> float:
    angle, middle = np.deg2rad(degrees), len(coherence) // 2
    at = [middle + radius * np.cos(angle), middle - radius * np.sin(angle)]
    return float(ndimage.map_coordinates(coherence, at, order=1).mean())
