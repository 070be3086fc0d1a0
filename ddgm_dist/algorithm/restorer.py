"""The interface of a restorer, and its application to rows of a tile.

A denoiser knows white noise. A restorer knows what a tilt series leaves of an image: it is given the
regularized inverse of the data (:mod:`ddgm_dist.operators.slab.inverse`), in which the missing wedge
and the noise are not white, and says what they hide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ddgm_dist.core.box import Box
from ddgm_dist.core.geometry import Geometry
from ddgm_dist.core.window import WindowLattice

__all__ = ["Acquisition", "Restorer", "restore_rows"]

# The windows of a restored start do not move with the seed, so that all samples share it.
_SEED, _ITERATION = 0, 0


@dataclass(frozen=True)
class Acquisition:
    """The part of an acquisition that shapes the errors of an inverse.

    Attributes
    ----------
    angles_deg
        Tilt angles in degrees, in the order of the series.
    thickness
        Thickness of the slab, voxels.
    """

    angles_deg: tuple[float, ...]
    thickness: int

    @staticmethod
    def of(geometry: Geometry) -> Acquisition:
        """The acquisition of a geometry."""
        return Acquisition(geometry.angles_deg, geometry.thickness)


class Restorer(Protocol):
    """A trained estimate of the clean image from inverses of it and of its neighbours.

    Attributes
    ----------
    stride
        Image extents must be multiples of it.
    neighbours
        Rows on each side whose inverses it is given too.
    """

    @property
    def stride(self) -> int:
        """Image extents must be multiples of it."""

    @property
    def neighbours(self) -> int:
        """Rows on each side whose inverses it is given too, r."""

    def __call__(
        self, images: Tensor, noise: float, acquisition: Acquisition, inside: Tensor
    ) -> Tensor:
        """Restore images.

        Parameters
        ----------
        images
            Regularized inverses of the rows y - r to y + r, float32 ``(batch, 2 r + 1, z, x)``. Clean
            images have zero mean and unit variance.
        noise
            Standard deviation of the projections' noise that the inverse was made for, in units of
            the normalised volume.
        acquisition
            Angles and thickness.
        inside
            1 where there is specimen, 0 in padding; float32 ``(batch, z, x)``.

        Returns
        -------
        Tensor
            Restored images of the rows y, float32 ``(batch, z, x)``.
        """


def restore_rows(
    restorer: Restorer,
    x_w: Tensor,
    noise: float,
    acquisition: Acquisition,
    *,
    box: Box,
    lattice: WindowLattice,
) -> Tensor:
    """Restore the (z, x) slices of a block of rows, window by window, blended.

    Every call has the shape (rows of the block, neighbours, padded thickness, window width), wherever
    the window lies, as in :func:`ddgm_dist.algorithm.denoiser.denoise_rows`.

    Parameters
    ----------
    restorer
        The restorer, of r neighbours on each side.
    x_w
        Regularized inverses of the block's rows and of r more on each side, float32
        ``(z, rows + 2 r, columns)``.
    noise, acquisition
        Noise and geometry, as the restorer takes them.
    box
        Place of the block, without the r rows.
    lattice
        Windows of the restorer's stride.

    Returns
    -------
    Tensor
        Float32 ``(z, rows, columns)``.
    """
    thickness, rows = x_w.shape[0], box.shape[1]
    start, stop = box.start[2], box.stop[2]
    depth = -(-thickness // restorer.stride) * restorer.stride
    # (rows, 2 r + 1, z, columns), without a copy.
    images = x_w.permute(1, 0, 2).unfold(0, 2 * restorer.neighbours + 1, 1).permute(0, 3, 1, 2)
    out = torch.zeros((rows, thickness, stop - start), device=x_w.device)
    profile = lattice.profile(x_w.device)
    for first in lattice.starts(start, stop, seed=_SEED, iteration=_ITERATION):
        a, b = max(first, start), min(first + lattice.width, stop)
        pad = (a - first, first + lattice.width - b, 0, depth - thickness)
        part = images[..., a - start : b - start]
        inside = F.pad(torch.ones((rows, *part.shape[2:]), device=x_w.device), pad)
        # Contiguous, or the layout of memory, and with it rounding, would depend on the tile.
        clean = restorer(F.pad(part.contiguous(), pad), noise, acquisition, inside)
        clean = clean[:, :thickness, a - first : b - first]
        out[..., a - start : b - start] += clean * profile[a - first : b - first]
    return out.permute(1, 0, 2)
