r"""Fourier ring correlation of (z, x) slices, separately for measured directions and the missing wedge.

Saxton & Baumeister 1982 (J. Microsc. 127, 127), van Heel & Schatz 2005 (J. Struct. Biol. 151, 250).
Over the frequencies of a ring, summed over slices,

    FRC = Re sum F conj(G) / sqrt(sum |F|^2 sum |G|^2).

A projection at angle theta holds the frequencies ``kappa_z = kappa_x tan(theta)`` (Fourier slice
theorem). Tilts within ``+- theta_max`` measure those of ``|kappa_z| <= |kappa_x| tan(theta_max)``. The
others are the missing wedge, which a reconstruction fills from its prior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.errors import InputError

__all__ = ["RingCorrelation", "ring_correlation"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RingCorrelation:
    """Correlation by ring, NaN where a ring has no frequency or no power.

    Attributes
    ----------
    frequency
        Middle of each ring, cycles per voxel, float64 ``(ring,)``.
    measured, missing, all
        Correlation over the measured frequencies, over the missing wedge, and over both.
    """

    frequency: Floats
    measured: Floats
    missing: Floats
    all: Floats


def ring_correlation(
    volume: NDArray[Any], reference: NDArray[Any], *, max_tilt_deg: float, rings: int = 32
) -> RingCorrelation:
    """Correlate two volumes in Fourier space, ring by ring and by orientation.

    The mean of each slice is subtracted and its edges are tapered along z and x, as they would add
    power in all orientations. The taper is a raised cosine over an eighth at either end, 0 at the edge.

    Parameters
    ----------
    volume, reference
        ``(z, y, x)``, in any unit; two reconstructions, or one and the truth.
    max_tilt_deg
        Largest tilt, degrees; 90 has no missing wedge.
    rings
        Number of rings between 0 and 1/2 cycle per voxel.

    Raises
    ------
    InputError
        The shapes differ or are too small, there is NaN or infinity, a number is out of its range.
    """
    _check(volume, reference, max_tilt_deg, rings)
    depth, _, width = volume.shape
    taper = _taper(depth)[:, None, None] * _taper(width)
    F, G = (_spectrum(v, taper) for v in (volume, reference))
    kz, kx = np.fft.fftfreq(depth)[:, None], np.fft.rfftfreq(width)[None]
    ring = np.floor(np.hypot(kz, kx) * 2 * rings).astype(int)
    # Not quite 0 at kappa_x = 0: the tangent of 90 degrees, large but finite here, has to see it.
    slope = math.tan(math.radians(max_tilt_deg))
    seen = np.abs(kz) <= np.maximum(kx, 1e-12) * slope
    # A real image's other half is the conjugate of this one; the first and last column have none.
    weight = np.full(kx.shape, 2.0)
    weight[:, 0] = 1.0
    if width % 2 == 0:
        weight[:, -1] = 1.0
    products = [
        weight * p.sum(axis=1)
        for p in ((F * G.conj()).real, np.square(np.abs(F)), np.square(np.abs(G)))
    ]
    # kappa = 0, the mean that was taken off, counts for no orientation.
    kept = (ring < rings) & (np.hypot(kz, kx) > 0)
    return RingCorrelation(
        frequency=(np.arange(rings) + 0.5) / (2 * rings),
        measured=_correlate(products, ring, kept & seen, rings),
        missing=_correlate(products, ring, kept & ~seen, rings),
        all=_correlate(products, ring, kept, rings),
    )


def _taper(size: int) -> Floats:
    edge = max(1, size // 8)
    ramp = np.sin(np.pi / 2 * (np.arange(edge) + 0.5) / edge) ** 2
    window = np.ones(size)
    window[:edge], window[size - edge :] = ramp, ramp[::-1]
    return window


def _spectrum(values: NDArray[Any], taper: Floats) -> NDArray[np.complex128]:
    """Spectrum of every tapered slice, ``(z, y, kx)``."""
    slices = values.astype(np.float64)
    slices = (slices - slices.mean(axis=(0, 2), keepdims=True)) * taper
    return np.fft.fft(np.fft.rfft(slices, axis=2), axis=0)


def _correlate(
    products: list[Floats], ring: NDArray[np.int64], use: NDArray[np.bool_], rings: int
) -> Floats:
    cross, ours, theirs = (
        np.bincount(ring[use], weights=p[use], minlength=rings)[:rings] for p in products
    )
    power = np.sqrt(ours * theirs)
    out = np.full(rings, np.nan)
    np.divide(cross, power, out=out, where=power > 0)
    return out


def _check(volume: NDArray[Any], reference: NDArray[Any], max_tilt_deg: float, rings: int) -> None:
    if volume.ndim != 3 or volume.shape != reference.shape:
        raise InputError(
            "reference",
            f"shape {reference.shape}",
            f"must be that of the volume, {volume.shape}, which is (z, y, x)",
        )
    if min(volume.shape[0], volume.shape[2]) < 8:
        raise InputError("volume", f"shape {volume.shape}", "slices need 8 voxels along z and x")
    for name, values in (("volume", volume), ("reference", reference)):
        if not np.isfinite(values).all():
            raise InputError(
                name, "NaN or infinite voxels", "has no spectrum", "take a finished part"
            )
    if not 0 < max_tilt_deg <= 90:
        raise InputError("max_tilt_deg", max_tilt_deg, "is an angle above 0 and up to 90 degrees")
    if rings < 1:
        raise InputError("rings", rings, "there must be at least one")
