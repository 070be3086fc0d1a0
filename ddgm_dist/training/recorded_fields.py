"""Recorded fields of simulated series: their ends, cuts between tiles, vacuum around the specimen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.core.geometry import Boundary, Geometry

__all__ = ["RecordedField", "beyond"]

# Least and most columns that a block has besides a window's, to show what rays at an end cross.
_BEYOND = (96, 448)
_VACUUM = 0.2
_WIDTHS = (200, 4000)


def beyond(acquisition: Acquisition) -> int:
    """Columns besides a window's: as many as the steepest rays cross on both sides, within bounds."""
    reach = Geometry(acquisition.angles_deg, acquisition.thickness, 1, 1).reach
    return min(max(2 * reach, _BEYOND[0]), _BEYOND[1])


@dataclass(frozen=True)
class RecordedField:
    """A recorded field, and the columns of it that a block holds.

    Attributes
    ----------
    geometry
        Geometry of the series.
    columns
        The block's columns of its domain, as a tile's read box has them.
    vacuum
        Value of the normalised volume outside the specimen, if it lies in vacuum.
    """

    geometry: Geometry
    columns: tuple[int, int]
    vacuum: float = 0.0

    @staticmethod
    def draw(
        rng: np.random.Generator, acquisition: Acquisition, rows: int, width: int
    ) -> RecordedField:
        """Draw an end of a field, or the cut between two tiles.

        Parameters
        ----------
        rng
            Generator, which is advanced.
        acquisition
            Angles and thickness.
        rows
            Rows of the geometry.
        width
            Columns of the block.
        """
        boundary: Boundary = "vacuum" if rng.random() < _VACUUM else "extended"
        wide = round(float(np.exp(rng.uniform(*np.log(_WIDTHS)))))
        angles, thickness = acquisition.angles_deg, acquisition.thickness
        # The domain is at least as wide as the block.
        pad = Geometry(angles, thickness, rows, wide, boundary=boundary).domain[0]
        geometry = Geometry(angles, thickness, rows, max(wide, width + 2 * pad), boundary=boundary)
        first, last = geometry.domain
        kind = rng.random()
        if kind < 0.4:
            start = first
        elif kind < 0.8:
            start = last - width
        else:
            start = int(rng.integers(first, last - width + 1))
        vacuum = float(rng.uniform(-4, -0.5)) if boundary == "vacuum" else 0.0
        return RecordedField(geometry, (start, start + width), vacuum)

    def surround(self, rng: np.random.Generator, clean: Tensor) -> bool:
        """Sometimes replace what lies beyond the field, or around the specimen, with a constant.

        Parameters
        ----------
        rng
            Generator, which is advanced.
        clean
            The block ``(z, rows, columns)``, changed in place.

        Returns
        -------
        bool
            True if it was changed.
        """
        start, stop = self.columns
        gap = int(rng.integers(0, 60))
        if self.geometry.boundary == "vacuum":  # the specimen is narrower than the field
            a, b, level = gap, self.geometry.field - int(rng.integers(0, 60)), self.vacuum
        elif rng.random() < 0.25:
            a, b, level = -gap, self.geometry.field + gap, float(rng.uniform(-3, 1))
        else:
            return False
        outside = torch.arange(start, stop)
        outside = (outside < a) | (outside >= b)
        clean[..., outside] = level
        return bool(outside.any())

    def measured(self, rng: np.random.Generator, seen: Tensor) -> Tensor:
        """S, where the detector sometimes has dead columns.

        Parameters
        ----------
        rng
            Generator, which is advanced.
        seen
            1 where rays hit the detector and cross nothing unknown, ``(tilt, 1, length)``.
        """
        if rng.random() > 0.25:
            return seen
        share = float(np.exp(rng.uniform(math.log(1e-3), math.log(0.03))))
        dead = torch.from_numpy(rng.random(seen.shape) < share)
        return seen * (~(dead | dead.roll(1, -1))).float()  # both samples that are read from it
