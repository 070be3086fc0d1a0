"""The affine map between the data's unit and the prior's.

The volume is ``mean + std * f`` with f of zero mean and unit variance, the prior's unit. Its
projections are ``mean * path + std * A f``, where the path through a slab is
``thickness / cos(theta)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddgm_dist.core.geometry import Geometry

__all__ = ["Intensity"]


@dataclass(frozen=True)
class Intensity:
    """The affine map and the noise, in the units of the data.

    Attributes
    ----------
    mean, std
        Mean and standard deviation of the volume, in projection units per voxel.
    sigma_y
        Standard deviation of the projections' noise, in projection units.
    misfit
        Standard deviation of what no volume explains beyond the noise, in projection units: views
        that are not aligned, for example. 0 where it was not estimated.
    """

    mean: float
    std: float
    sigma_y: float
    misfit: float = 0.0

    @property
    def relative_noise(self) -> float:
        """sigma_y in the units of the normalised volume's projections."""
        return self.sigma_y / self.std

    @property
    def uncertainty(self) -> float:
        """The larger of noise and misfit, projection units: the data are explained up to this."""
        return max(self.sigma_y, self.misfit)

    def describe_noise(self) -> str:
        """Noise and misfit, for people."""
        more = " (more than the noise: see discrepancy)" if self.misfit > self.sigma_y else ""
        misfit = f"{self.misfit:.3g}{more}" if self.misfit else "below it, or not estimated"
        return f"sigma_y {self.sigma_y:.4g} per pixel; misfit {misfit}"

    def normalise(self, projections: Tensor, geometry: Geometry) -> Tensor:
        """Projections of the normalised volume, from the volume's own ``(tilt, rows, field)``."""
        return (projections - self.background(geometry).to(projections)[:, None, None]) / self.std

    def background(self, geometry: Geometry) -> Tensor:
        """Projection of a slab of the mean value at each tilt, float32 ``(tilt,)``."""
        angles = torch.tensor(geometry.angles, dtype=torch.float64)
        return (self.mean * geometry.thickness / torch.cos(angles)).float()

    @property
    def vacuum(self) -> float:
        """Value of empty space in the normalised volume."""
        return -self.mean / self.std

    def restore(self, volume: Tensor) -> Tensor:
        """The volume in the data's unit, from the normalised one; shape unchanged."""
        return volume * self.std + self.mean
