"""Ends of the recorded field, where not all tilts see the specimen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ddgm_dist.algorithm.restorer import Acquisition

__all__ = ["FieldEnds"]


@dataclass(frozen=True)
class FieldEnds:
    """Ends of a recorded field among the columns of a block.

    Attributes
    ----------
    first, stop
        Columns that the field holds.
    measured
        S: 1 where a ray hits the detector and crosses nothing outside the columns, ``(tilt, columns)``.
    """

    first: int
    stop: int
    measured: Tensor

    @staticmethod
    def draw(rng: np.random.Generator, acquisition: Acquisition, width: int) -> FieldEnds:
        tan = [math.tan(math.radians(a)) for a in acquisition.angles_deg]
        steepest = max(abs(t) for t in tan)
        reach = math.ceil(acquisition.thickness / 2 * steepest)
        # One end of the field, or the cut between two tiles: then the field goes on.
        stop = width - min(reach, width // 2) if rng.random() < 0.8 else width
        wide = round(float(np.exp(rng.uniform(math.log(200), math.log(4000)))))
        s = torch.arange(width, dtype=torch.float64)
        rows = []
        for t, angle in zip(tan, acquisition.angles_deg, strict=True):
            spread = (acquisition.thickness - 1) / 2 * abs(t)
            hit = (s - spread >= 0) & (s + spread <= width - 1)
            # As the operator has it: both axes are centred.
            centre, cos = stop - (wide + 1) / 2, math.cos(math.radians(angle))
            if stop < width:
                hit &= (s - centre) * cos <= (wide - 1) / 2
            rows.append(hit)
        measured = torch.stack(rows).to(torch.float32)
        first = 0
        if rng.random() < 0.5:
            measured, first, stop = measured.flip(1), width - stop, width
        return FieldEnds(first, stop, measured)

    def surround(self, rng: np.random.Generator, clean: Tensor) -> None:
        """Sometimes replace the tissue beyond the field with a constant, in place."""
        width = clean.shape[-1]
        if (self.first, self.stop) == (0, width) or rng.random() > 0.25:
            return
        level, gap = float(rng.uniform(-3, 1)), int(rng.integers(0, 60))
        if self.first > 0:
            clean[..., : max(0, self.first - gap)] = level
        else:
            clean[..., min(width, self.stop + gap) :] = level
