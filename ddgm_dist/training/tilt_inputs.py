"""Inputs for the training of a restorer: inverses of simulated tilt series, and the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ddgm_dist.algorithm.restorer import DARK, ERROR_VARIANCE, Acquisition
from ddgm_dist.training.acquisitions import draw_acquisition, draw_noise
from ddgm_dist.training.blocks import BlockSampler
from ddgm_dist.training.model_errors import ModelErrors
from ddgm_dist.training.recorded_fields import RecordedField, beyond
from ddgm_dist.training.simulated_series import SimulatedSeries

__all__ = ["MOST_CALLS", "Inputs", "TiltInputs"]

# Columns besides a window's in blocks without an end, from which windows are drawn.
_SPARE = 32
# Columns that windows at the end of a block may reach beyond it, as those of a tile do.
_OUTSIDE = 64
# Shares of the batches: with an end of the field, with errors of the model, by number of calls.
_ENDS, _ERRORS = 0.3, 0.4
_CALLS = (0.55, 0.3, 0.15)
MOST_CALLS = len(_CALLS)


@dataclass(frozen=True)
class Inputs:
    """A batch of one geometry.

    Attributes
    ----------
    images
        Regularized inverses of rows y-r .. y+r, float32 ``(batch, 2r + 1, z, x)``, of whole blocks.
    clean
        The row in their middle, float32 ``(batch, z, x)``.
    coverage
        As a restorer is given it, 0 in padding to a multiple of the stride; shape of ``clean``.
    noise
        Noise that the restorer is given, ``(batch,)``.
    acquisition
        The geometry.
    part
        First column and stop of the window that is trained on, which may reach beyond the block.
    calls
        Number of calls, the last of which is trained.
    series, rows
        The series, and the rows of its blocks that the batch has.
    """

    images: Tensor
    clean: Tensor
    coverage: Tensor
    noise: Tensor
    acquisition: Acquisition
    part: tuple[int, int]
    calls: int
    series: SimulatedSeries
    rows: list[int]

    def window(self, images: Tensor) -> Tensor:
        """The window of some images, 0 beyond the block."""
        (first, stop), width = self.part, images.shape[-1]
        part = images[..., max(first, 0) : min(stop, width)]
        return F.pad(part, (max(0, -first), max(0, stop - width)))

    def estimates(self, restored: Tensor) -> Tensor:
        """Estimates for a repeated call: restored images of whole blocks, and data steps about them.

        Float32 ``(batch, z, x)`` to ``(batch, 2, z, x)``.
        """
        thickness = self.acquisition.thickness
        around = restored[:, :thickness].permute(1, 0, 2).contiguous()
        corrected = self.series.inverse(self.rows, around, ERROR_VARIANCE).permute(1, 0, 2)
        padded = F.pad(corrected, (0, 0, 0, restored.shape[1] - thickness))
        return torch.stack((restored, padded), dim=1)


@dataclass(frozen=True)
class TiltInputs:
    """Draws batches; the same (seed, step) draws the same batch.

    Attributes
    ----------
    blocks
        Source of tissue.
    neighbours, stride
        Of the restorer: rows on each side, and what extents must be multiples of.
    columns
        Width of the windows, a multiple of the stride.
    pixels
        Pixels of a batch, about.
    run
        Neighbouring rows of one block that are targets: they share its rows' inverses.
    seed
        Seed.
    """

    blocks: BlockSampler
    neighbours: int = 2
    stride: int = 16
    columns: int = 224
    pixels: int = 6 * 64 * 224
    run: int = 2
    seed: int = 0

    def draw(self, step: int) -> Inputs:
        """The batch of one step: random geometry, noise, errors of the model and ends of the field."""
        rng = np.random.default_rng([self.seed, step])
        acquisition = draw_acquisition(rng)
        ends = rng.random() < _ENDS
        noises = [draw_noise(rng) for _ in range(self._count(acquisition.thickness))]
        if ends:  # alike, as the least one decides how many steps the inverse takes
            noises = [noises[0] * float(np.exp(rng.uniform(-0.3, 0.3))) for _ in noises]
        errors = ModelErrors.draw(rng, acquisition) if rng.random() < _ERRORS else None
        calls = 1 + int(rng.choice(len(_CALLS), p=_CALLS))
        return self.simulate(rng, acquisition, noises, errors=errors, ends=ends, calls=calls)

    def simulate(
        self,
        rng: np.random.Generator,
        acquisition: Acquisition,
        noises: list[float],
        *,
        errors: ModelErrors | None = None,
        ends: bool = False,
        augment: bool = True,
        calls: int = 1,
    ) -> Inputs:
        """A batch of a given geometry, a block for each noise.

        Parameters
        ----------
        rng
            Generator of everything that is random.
        acquisition
            The geometry.
        noises
            Noise of each block, as a fraction of the projections' standard deviation.
        errors
            Errors of the model; none when None.
        ends
            Show an end of the recorded field.
        augment
            Change the tissue as by another microscope.
        calls
            Number of calls.
        """
        extra = beyond(acquisition) if ends else _SPARE
        width = -(-(self.columns + extra) // self.stride) * self.stride
        rows = self.run + 2 * self.neighbours
        shape = (rows, acquisition.thickness, width)
        drawn = [self.blocks.draw(rng, shape, augment=augment) for _ in noises]
        clean = torch.from_numpy(np.concatenate(drawn)).transpose(0, 1).contiguous()
        field = None
        low, high = 0, width - self.columns
        if ends:
            field = RecordedField.draw(rng, acquisition, clean.shape[1], width)
            outside = min(_OUTSIDE, self.columns // 2)
            low, high = low - outside, high + outside
        series = SimulatedSeries(acquisition, clean, noises, rng, errors, field)
        first = int(rng.integers(low, high + 1))
        return self._batch(clean, series, (first, first + self.columns), calls)

    def _count(self, thickness: int) -> int:
        depth = -(-thickness // self.stride) * self.stride
        return max(1, round(self.pixels / (self.run * depth * self.columns)))

    def _batch(
        self, clean: Tensor, series: SimulatedSeries, part: tuple[int, int], calls: int
    ) -> Inputs:
        """Images of all target rows, padded to the stride."""
        acquisition = Acquisition.of(series.operator.geometry)
        rows, r = self.run + 2 * self.neighbours, self.neighbours
        depth = -(-acquisition.thickness // self.stride) * self.stride

        def padded(volume: Tensor) -> Tensor:
            pad = (0, 0, 0, depth - acquisition.thickness)
            return F.pad(volume.permute(1, 0, 2), pad)

        shown, coverage = padded(series.inverse()), padded(DARK + (1 - DARK) * series.coverage)
        middles = [b * rows + r + k for b in range(len(series.noise)) for k in range(self.run)]
        return Inputs(
            torch.stack([shown[m - r : m + r + 1] for m in middles]),
            padded(clean)[middles],
            coverage.expand(len(middles), -1, -1),
            series.noise.repeat_interleave(self.run),
            acquisition,
            part,
            calls,
            series,
            middles,
        )
