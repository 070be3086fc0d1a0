"""Shift between two images by phase-free cross-correlation, to a fraction of a pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

__all__ = ["Match", "despike", "match", "prepare"]

Floats = NDArray[np.float64]

# Widths of a band-pass, pixels: slow changes of brightness and single noisy pixels say nothing.
_FINE, _COARSE = 1.0, 12.0
# Values beyond so many robust standard deviations are taken for that.
_MOST = 5.0
# Peaks are searched for within this share of the image.
_FARTHEST = 0.3


Match = tuple[float, float, float]


def despike(image: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """A view without hot pixels, which would decide alone; and which pixels are measured.

    What is not measured has the median of the others.
    """
    known = np.isfinite(image)
    if not known.any():
        return np.zeros_like(image), known
    filled = np.where(known, image, float(np.median(image[known])))
    around = _around(filled)
    apart = filled - around
    usual = 1.4826 * float(np.median(np.abs(apart[known])))
    return np.where(np.abs(apart) > _MOST * usual, around, filled), known


def prepare(image: Floats) -> Floats:
    """A view without slow changes of brightness, faded out at its edges; zero where unmeasured."""
    filled, known = despike(image)
    if not known.any():
        return filled
    filled = filled * known
    weight = known.astype(np.float64)

    def smooth(width: float) -> Floats:
        share = ndimage.gaussian_filter(weight, width, mode="constant")
        found = ndimage.gaussian_filter(filled, width, mode="constant")
        return np.asarray(found / np.maximum(share, 1e-6))

    band = (smooth(_FINE) - smooth(_COARSE)) * known
    # Beads of gold would decide alone, too.
    usual = 1.4826 * float(np.median(np.abs(band[known])))
    band = band.clip(-_MOST * usual, _MOST * usual)
    rows, columns = image.shape
    taper = np.outer(np.hanning(rows + 2)[1:-1], np.hanning(columns + 2)[1:-1])
    band = band * np.sqrt(taper)
    norm = float(np.sqrt(np.square(band).sum()))
    return band / norm if norm > 0 else band


def _around(image: Floats) -> Floats:
    """Mean of the middle two of each pixel's four neighbours, which is their median."""
    padded = np.pad(image, 1, mode="edge")
    four = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    low, high = (np.minimum.reduce(four), np.maximum.reduce(four))
    return np.asarray((sum(four) - low - high) / 2)


def match(one: Floats, other: Floats) -> Match:
    """Shift of one prepared image against another.

    Returns
    -------
    dy, dx
        ``one`` at (y + dy, x + dx) is like ``other`` at (y, x), pixels.
    quality
        Correlation at the peak, at most 1.
    """
    shape = tuple(fft.next_fast_len(2 * n, real=True) for n in one.shape)
    spectrum = fft.rfft2(one, shape) * np.conj(fft.rfft2(other, shape))
    found = fft.fftshift(fft.irfft2(spectrum, shape))
    middle = np.array(shape) // 2
    reach = np.maximum(2, (np.array(one.shape) * _FARTHEST).astype(int))
    part = found[
        middle[0] - reach[0] : middle[0] + reach[0] + 1,
        middle[1] - reach[1] : middle[1] + reach[1] + 1,
    ]
    peak = np.unravel_index(int(np.argmax(part)), part.shape)
    shift = [
        p - r + _vertex(np.take(part, [p - 1, p, p + 1], axis=axis, mode="clip"), axis, peak)
        for axis, (p, r) in enumerate(zip(peak, reach, strict=True))
    ]
    return float(shift[0]), float(shift[1]), float(part[peak])


def _vertex(three: Floats, axis: int, peak: tuple[np.intp, ...]) -> float:
    """Vertex of the parabola through the peak and its neighbours along an axis."""
    low, mid, high = np.take(three, peak[1 - axis], axis=1 - axis)
    bend = low - 2 * mid + high
    return float(np.clip((low - high) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0
