"""Errors of the model: what a reconstruction does not know of its tilts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.operators.slab.basis import from_fourier, to_fourier

__all__ = ["ModelErrors"]


@dataclass(frozen=True)
class ModelErrors:
    """Errors of the model: what the reconstruction does not know of each tilt.

    Attributes
    ----------
    shift
        Pixels along u, by tilt.
    gain
        Factor, by tilt.
    blur
        Standard deviation of the detector's point spread, pixels.
    uneven
        Standard deviation of the noise by tilt, relative to the mean's.
    counts
        How much the noise varies with the projection, as that of counts does: the variance is
        proportional to ``exp(counts * b / spread)``.
    """

    shift: Tensor
    gain: Tensor
    blur: float
    uneven: Tensor
    counts: float = 0.0

    @staticmethod
    def draw(rng: np.random.Generator, acquisition: Acquisition) -> ModelErrors:
        count = len(acquisition.angles_deg)
        shift, gain, blur = np.zeros(count), np.ones(count), 0.0
        if rng.random() < 0.6:
            shift = rng.standard_normal(count) * float(np.exp(rng.uniform(np.log(0.1), 0)))
            # Of all views: as the axis does, 1 pixel 115 rows from the middle at 0.5 degrees.
            shift = shift + rng.normal(0, 0.4 if rng.random() < 0.7 else 1.2)
        if rng.random() < 0.4:
            gain = gain + rng.standard_normal(count) * rng.uniform(0, 0.05)
        if rng.random() < 0.4:
            blur = float(rng.uniform(0.2, 0.9))
        uneven = np.ones(count)
        if rng.random() < 0.5:  # as counts are fewer where the path is longer
            tilted = 1 / np.cos(np.radians(acquisition.angles_deg))
            uneven = tilted ** rng.uniform(0, 0.5) * np.exp(0.1 * rng.standard_normal(count))
            uneven = uneven / np.sqrt(np.mean(uneven**2))
        counts = float(rng.uniform(0.2, 1)) if rng.random() < 0.3 else 0.0
        parts = [torch.as_tensor(v, dtype=torch.float32) for v in (shift, gain, uneven)]
        return ModelErrors(parts[0], parts[1], blur, parts[2], counts)

    def applied(self, b: Tensor, acquisition: Acquisition) -> Tensor:
        """Stretched projections ``(tilt, rows, columns)`` with the errors in them."""
        rows, length = b.shape[1:]
        k = 2 * math.pi * torch.arange(length // 2 + 1) / length
        cos = torch.tensor([math.cos(math.radians(a)) for a in acquisition.angles_deg])
        phase = k[:, None] * (self.shift / cos)  # a shift along u is one of s by 1 / cos
        factor = self.gain * torch.exp(-0.5 * (k[:, None] * self.blur / cos).square())
        re, im = to_fourier(b).chunk(2, dim=2)
        c, s = (factor * phase.cos())[..., None], (factor * phase.sin())[..., None]
        return from_fourier(torch.cat((re * c + im * s, im * c - re * s), dim=2), rows, length)

    def strength(self, b: Tensor, spread: Tensor) -> Tensor:
        """Standard deviation of the noise of each sample, of mean square 1; shape of ``b``.

        Parameters
        ----------
        b
            Stretched projections ``(tilt, rows, columns)``.
        spread
            Their standard deviation, a scalar.
        """
        strength = self.uneven[:, None, None] * torch.exp(
            0.5 * self.counts * (b / spread).clamp(-4, 4)
        )
        return strength / strength.square().mean().sqrt()
