"""From the data's unit to the prior's, and back: an affine map estimated from the tilt series.

The volume is ``mean + std * f`` with f of zero mean and unit variance, the prior's unit. Its
projections are ``mean * path + std * A f`` with the path of a constant background,
``thickness / cos(theta)`` through a slab.

*mean*: each tilt's mean divided by its path; the median over tilts.

*std*: the power spectrum of a projection is, by the Fourier slice theorem, the volume's power
spectrum along the ray's normal times the length of the ray, so each tilt measures
``P(omega) = P_b(omega) cos(theta) / thickness`` on one radial line, after the detector's white noise
floor sigma_y^2 has been taken off. Tilts leave a wedge out; the specimen's texture is taken to
have the mean radial spectrum of the measured directions there too. Then
``std^2 = (1 / 2 pi) * integral of P(omega) omega d omega``.

*sigma_y*: the mixed fourth difference along rows and columns removes the smooth specimen and keeps
white noise, whose standard deviation is read off the median absolute value (Immerkaer 1996,
Comput. Vis. Image Underst. 64, 300, with a robust scale).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddgm_dist.core.geometry import Geometry
from ddgm_dist.errors import InputError

__all__ = ["Intensity", "estimate_intensity", "estimate_noise"]


@dataclass(frozen=True)
class Intensity:
    """The affine map and the noise, in the units of the data.

    Attributes
    ----------
    mean, std
        Of the volume, in projection units per voxel.
    sigma_y
        Standard deviation of the projections' noise, in projection units.
    """

    mean: float
    std: float
    sigma_y: float

    @property
    def relative_noise(self) -> float:
        """sigma_y in the units of the normalised volume's projections."""
        return self.sigma_y / self.std

    def normalise(self, projections: Tensor, geometry: Geometry) -> Tensor:
        """Projections ``(tilt, rows, field)`` of the volume to those of the normalised volume."""
        angles = torch.tensor(geometry.angles, dtype=torch.float64)
        path = (self.mean * geometry.thickness / torch.cos(angles)).to(projections)
        return (projections - path[:, None, None]) / self.std

    @property
    def vacuum(self) -> float:
        """Value of empty space in the normalised volume."""
        return -self.mean / self.std

    def restore(self, volume: Tensor) -> Tensor:
        """Normalised volume to the data's unit."""
        return volume * self.std + self.mean


def estimate_noise(projections: Tensor) -> float:
    """Standard deviation of white noise in projections ``(tilt, rows, field)``, over all tilts."""
    p = projections.double()
    d = p[..., :-2] - 2 * p[..., 1:-1] + p[..., 2:]
    norm = math.sqrt(6)
    if p.shape[1] >= 3:
        d = d[:, :-2] - 2 * d[:, 1:-1] + d[:, 2:]
        norm = 6.0
    elif p.shape[-1] >= 5:
        d = d[..., :-2] - 2 * d[..., 1:-1] + d[..., 2:]
        norm = math.sqrt(70)
    if d.numel() == 0:
        return 0.0
    scale = d.abs().flatten(1).median(dim=1).values / 0.6744897501960817 / norm
    return float(scale.square().mean().sqrt())


def estimate_intensity(
    projections: Tensor, geometry: Geometry, *, sigma_y: float | None = None
) -> Intensity:
    """Estimate the map from sample rows of the tilt series; see the module's docstring.

    Parameters
    ----------
    projections
        Float ``(tilt, rows, field)``, finite.
    geometry
        Of the tilt series.
    sigma_y
        Noise in projection units when it is known.

    Raises
    ------
    InputError
        If the projections hold no contrast above their noise.
    """
    p = projections.double()
    noise = estimate_noise(p) if sigma_y is None else sigma_y
    cosine = torch.cos(torch.tensor(geometry.angles, dtype=torch.float64))
    isolated = geometry.specimen == "isolated"
    # An isolated specimen's mass is the same at each tilt; a slab's path grows with the tilt.
    path = torch.full_like(cosine, geometry.thickness) if isolated else geometry.thickness / cosine
    mean = float((p.mean(dim=(1, 2)) / path).median())
    spectrum = _radial_spectrum(p, path, noise)
    columns = p.shape[-1]
    omega = 2 * math.pi * torch.arange(len(spectrum), dtype=torch.float64) / columns
    variance = float((spectrum * omega).sum() / columns)
    if not variance > 0:
        raise InputError(
            "projections",
            f"standard deviation {float(p.std()):.3g}",
            f"hold no contrast above their noise of {noise:.3g}, so their scale cannot be estimated",
            "give mean and std of the volume explicitly",
        )
    return Intensity(mean, math.sqrt(variance), noise)


def _radial_spectrum(p: Tensor, path: Tensor, noise: float) -> Tensor:
    """Power of the volume per radial frequency, float64 ``(columns // 2 + 1,)``."""
    columns = p.shape[-1]
    taper = torch.hann_window(columns, periodic=True, dtype=torch.float64)
    centred = (p - p.mean(dim=(1, 2), keepdim=True)) * taper
    power = torch.fft.rfft(centred).abs().square() / taper.square().sum()
    power = (power.mean(dim=1) - noise * noise) / path[:, None]
    mean = power.mean(dim=0)
    # Past the first frequency where noise hides the specimen there is nothing to add.
    floor = 0.1 * noise * noise * float((1 / path).mean())
    below = torch.nonzero(mean[2:] < floor).flatten()
    if len(below):
        mean[2 + int(below[0]) :] = 0
    return mean.clamp(min=0)
