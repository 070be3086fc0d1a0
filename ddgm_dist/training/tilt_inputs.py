"""Inputs for the training of a restorer: inverses of simulated tilt series, and the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.training.acquisitions import draw_acquisition, draw_noise
from ddgm_dist.training.blocks import BlockSampler
from ddgm_dist.training.field_ends import FieldEnds
from ddgm_dist.training.model_errors import ModelErrors
from ddgm_dist.training.simulated_series import SimulatedSeries

__all__ = ["Inputs", "TiltInputs"]

# Columns beyond a window that show the end of a field.
_BEYOND = 160
# Weight of the columns beyond the field, which are seen by some tilts only.
_UNSEEN = 0.25


@dataclass(frozen=True)
class Inputs:
    """A batch of one geometry.

    Attributes
    ----------
    images
        Regularized inverses of rows y-r .. y+r, float32 ``(batch, 2r + 1, z, x)``.
    clean
        The row in their middle, float32 ``(batch, z, x)``.
    inside
        1 within the slab, 0 in padding to a multiple of the stride; shape of ``clean``.
    weight
        Weights of the pixels in the loss; shape of ``clean``.
    noise
        Noise that the restorer is given, ``(batch,)``.
    acquisition
        The geometry.
    """

    images: Tensor
    clean: Tensor
    inside: Tensor
    weight: Tensor
    noise: Tensor
    acquisition: Acquisition


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
        Width of the images.
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
        ends = rng.random() < 0.35
        count = self._count(acquisition.thickness)
        noises = [draw_noise(rng) for _ in range(count)]
        errors = ModelErrors.draw(rng, acquisition) if rng.random() < 0.4 else None
        return self.simulate(rng, acquisition, noises, errors=errors, ends=ends)

    def simulate(
        self,
        rng: np.random.Generator,
        acquisition: Acquisition,
        noises: list[float],
        *,
        errors: ModelErrors | None = None,
        ends: bool = False,
        augment: bool = True,
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
        """
        width = self.columns + (_BEYOND if ends else 32)
        rows = self.run + 2 * self.neighbours
        shape = (rows, acquisition.thickness, width)
        drawn = [self.blocks.draw(rng, shape, augment=augment) for _ in noises]
        clean = torch.from_numpy(np.concatenate(drawn)).transpose(0, 1).contiguous()
        field = FieldEnds.draw(rng, acquisition, width) if ends else None
        if field is not None:
            field.surround(rng, clean)
        images, told = SimulatedSeries(acquisition, clean, rows).inverses(
            rng, noises, errors, field
        )
        first = int(rng.integers(width - self.columns + 1))
        return self._batch(images, clean, told, acquisition, field, first)

    def _count(self, thickness: int) -> int:
        depth = -(-thickness // self.stride) * self.stride
        return max(1, round(self.pixels / (self.run * depth * self.columns)))

    def _batch(
        self,
        images: Tensor,
        clean: Tensor,
        told: Tensor,
        acquisition: Acquisition,
        field: FieldEnds | None,
        first: int,
    ) -> Inputs:
        """Windows of all target rows, padded to the stride."""
        rows, r = self.run + 2 * self.neighbours, self.neighbours
        blocks = images.shape[1] // rows
        part = slice(first, first + self.columns)
        depth = -(-acquisition.thickness // self.stride) * self.stride
        pad = (0, 0, 0, depth - acquisition.thickness)
        shown = torch.nn.functional.pad(images[..., part].permute(1, 0, 2), pad)
        truth = torch.nn.functional.pad(clean[..., part].permute(1, 0, 2), pad)
        middles = [b * rows + r + k for b in range(blocks) for k in range(self.run)]
        stacked = torch.stack([shown[m - r : m + r + 1] for m in middles])
        inside = torch.zeros((len(middles), depth, self.columns))
        inside[:, : acquisition.thickness] = 1
        weight = inside.clone()
        if field is not None:
            column = torch.arange(first, first + self.columns)
            weight[..., (column < field.first) | (column >= field.stop)] *= _UNSEEN
        return Inputs(
            stacked,
            truth[middles],
            inside,
            weight,
            told.repeat_interleave(self.run),
            acquisition,
        )
