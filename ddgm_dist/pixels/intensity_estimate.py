"""Estimate mean, standard deviation and noise of a volume from its tilt series.

Only rays that stay within the field are used: what they would cross outside is unknown.

*mean*: each tilt's mean divided by its path; the median over tilts.

*std*: by the Fourier slice theorem, a projection's power spectrum is the volume's power spectrum along
the ray's normal times the length of the ray. So each tilt measures
``P(omega) = P_b(omega) cos(theta) / thickness`` on one radial line, after the detector's white noise
floor sigma_y^2 has been subtracted. Tilts leave a wedge out; the specimen's texture is taken to
have the mean radial spectrum of the measured directions there too. Then
``std^2 = (1 / 2 pi) * integral of P(omega) omega d omega``.

*sigma_y*: from the differences of neighbours, :mod:`ddgm_dist.pixels.noise_estimate`.

Lines (a row of one tilt) that are no measurement are left out of all three
(:mod:`ddgm_dist.pixels.omitted_lines`). So are tilts without a line. Where nothing is left out, nothing
is changed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.intensity import Intensity
from ddgm_dist.errors import InputError
from ddgm_dist.pixels.noise_estimate import noise_of_lines, rms
from ddgm_dist.pixels.omitted_lines import NARROWEST, inner_columns, measured_lines

__all__ = ["estimate_intensity"]


# Frequencies that the spectrum is kept at.
_FREQUENCIES = 1024


def estimate_intensity(
    projections: Tensor,
    geometry: Geometry,
    *,
    sigma_y: float | None = None,
    good: Tensor | None = None,
) -> Intensity:
    """Estimate the map from sample rows of the tilt series; see the module's docstring.

    Parameters
    ----------
    projections
        Float ``(tilt, rows, field)``, finite.
    geometry
        Geometry of the tilt series.
    sigma_y
        Noise in projection units when it is known.
    good
        Bool, as the projections: which were measured, where not all of them were. The others
        must have been replaced by something plausible.

    Raises
    ------
    InputError
        If the projections hold no contrast above their noise.
    """
    isolated = geometry.boundary == "vacuum"
    used = measured_lines(projections, geometry, good)
    parts = [projections[u.tilt] if u.rows is None else projections[u.tilt][u.rows] for u in used]
    noise = sigma_y
    if noise is None:
        noise = rms(
            [
                noise_of_lines(projections[u.tilt, :, u.first : u.stop].double(), u.rows)
                for u in used
            ]
        )
    means, lengths = [], []
    omega = torch.linspace(0, math.pi, _FREQUENCIES + 1, dtype=torch.float64)
    spectrum = torch.zeros_like(omega)
    inner = inner_columns(geometry)
    # Tilt by tilt in float64: samples of wide fields are large.
    for projection, lines in zip(parts, used, strict=True):
        # An isolated specimen's mass is the same at each tilt; a slab's path grows with the tilt.
        angle = geometry.angles[lines.tilt]
        path = geometry.thickness / (1.0 if isolated else math.cos(angle))
        first, stop = lines.within(*inner[lines.tilt])
        part = projection[:, first:stop].double()
        means.append(float(part.mean()) / path)
        if stop - first >= NARROWEST:
            power = (_power(part, omega, whole=isolated) - noise * noise) / path
            spectrum += power * (stop - first)
            lengths.append((stop - first, path))
    total = sum(columns for columns, _ in lengths)
    variance = 0.0
    if total:
        floor = 0.1 * noise * noise * sum(c / path for c, path in lengths) / total
        radial = _above_floor(spectrum / total, floor)
        step = math.pi / _FREQUENCIES
        variance = float((radial * omega).sum()) * step / (2 * math.pi)
    mean = float(torch.tensor(means).median())
    if isolated:
        # The spectrum is that of the specimen on an empty background.
        variance -= mean * mean

        # A flat specimen's energy lies where no tilt looks. But no volume varies less than its
        # means along the rays of a tilt do.
        along = [
            # Twice the same: the variance of a single tensor would sum, and round, otherwise.
            # A single pixel varies by nothing.
            (p.double() / geometry.thickness)
            .repeat(2, 1, 1)
            .var(dim=(1, 2), correction=min(1, p.numel() - 1))[0]
            for p in parts
        ]
        least = torch.stack(along).median() - (noise / geometry.thickness) ** 2
        variance = max(variance, float(least))
    if not variance > 0:
        raise InputError(
            "projections",
            f"standard deviation {_deviation(projections):.3g}",
            f"hold no contrast above their noise of {noise:.3g}, so their scale cannot be estimated",
            "give mean and std of the volume explicitly",
        )
    return Intensity(mean, math.sqrt(variance), noise)


def _deviation(projections: Tensor) -> float:
    """Standard deviation of all pixels; 0 of a single one."""
    return float(projections.double().std(correction=min(1, projections.numel() - 1)))


def _power(rows: Tensor, omega: Tensor, *, whole: bool) -> Tensor:
    """Power spectral density of rows ``(rows, columns)`` at the given frequencies, float64.

    Rows that are cut out of longer ones are centred and tapered. Those of a ``whole`` specimen end in
    a vacuum and are taken as they are.
    """
    columns = rows.shape[-1]
    taper = torch.ones(columns, dtype=torch.float64)
    if not whole:
        taper = torch.hann_window(columns, periodic=True, dtype=torch.float64)
    centred = (rows if whole else rows - rows.mean()) * taper
    power = torch.fft.rfft(centred, n=2 * _FREQUENCIES).abs().square() / taper.square().sum()
    if columns > 2 * _FREQUENCIES:
        position = omega / math.pi * (columns // 2)
        full = torch.fft.rfft(centred).abs().square().mean(dim=0) / taper.square().sum()
        below = position.floor().long().clamp(max=len(full) - 2)
        power = torch.lerp(full[below], full[below + 1], position - below)[None]
    mean: Tensor = power.mean(dim=0)
    return mean


def _above_floor(spectrum: Tensor, floor: float) -> Tensor:
    """The spectrum up to the first frequency where noise hides the specimen, zero beyond."""
    below = torch.nonzero(spectrum[2:] < floor).flatten()
    kept = spectrum.clone()
    if len(below):
        kept[2 + int(below[0]) :] = 0
    return kept.clamp(min=0)
