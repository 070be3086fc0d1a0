"""From the data's unit to the prior's, and back: an affine map.

The volume is ``mean + std * f`` with f of zero mean and unit variance, the prior's unit. Its
projections are ``mean * path + std * A f`` with the path of a constant background,
``thickness / cos(theta)`` through a slab.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddgm_dist.core.geometry import Geometry

__all__ = [
    "Intensity",
]


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
        return (projections - self.background(geometry).to(projections)[:, None, None]) / self.std

    def background(self, geometry: Geometry) -> Tensor:
        """What a slab of the mean projects to at each tilt, float32 ``(tilt,)``."""
        angles = torch.tensor(geometry.angles, dtype=torch.float64)
        return (self.mean * geometry.thickness / torch.cos(angles)).float()

    @property
    def vacuum(self) -> float:
        """Value of empty space in the normalised volume."""
        return -self.mean / self.std

    def restore(self, volume: Tensor) -> Tensor:
        """Normalised volume to the data's unit."""
        return volume * self.std + self.mean
