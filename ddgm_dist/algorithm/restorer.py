"""The interface of a restorer, and its application to rows of a tile.

A denoiser knows white noise. A restorer knows what a tilt series leaves of an image: it is given the
regularized inverse of the data (:mod:`ddgm_dist.operators.slab.inverse`), in which the missing wedge
and the noise are not white, and says what they hide.

It may be called again. Then it is also given its estimate x_1 of before and the data step about it,

    x_2 = argmin ||S (A x - b)||^2 / sigma_y^2 + ||x - x_1||^2 / ERROR_VARIANCE,

which says where the estimate contradicts the data. So a repeated call sees the errors that restored
images have, as in training.
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

__all__ = ["DARK", "ERROR_VARIANCE", "Acquisition", "Restorer", "restore_rows"]

# Variance that the data step takes the error of a restored image for; the specimen's is 1. It is below
# the whole error, most of which lies in the missing wedge, where the data step changes nothing.
ERROR_VARIANCE = 0.03
# Coverage that a restorer is given where no tilt sees the specimen; in padding it is 0.
DARK = 0.1

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
    repeats
        True if it may be called again, with estimates.
    """

    @property
    def stride(self) -> int:
        """Image extents must be multiples of it."""

    @property
    def neighbours(self) -> int:
        """Rows on each side whose inverses it is given too, r."""

    @property
    def repeats(self) -> bool:
        """True if it may be called again, with estimates."""

    def __call__(
        self,
        images: Tensor,
        noise: float,
        acquisition: Acquisition,
        coverage: Tensor,
        estimates: Tensor | None = None,
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
        coverage
            Float32 ``(batch, z, x)``: 0 in padding, and from `DARK` to 1 where there is specimen, as
            more of the tilts see it (:meth:`ddgm_dist.operators.slab.operator.SlabOperator.coverage`).
        estimates
            Of a repeated call: the estimate x_1 of the rows y and the data step x_2 about it, float32
            ``(batch, 2, z, x)``; None at first.

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
    coverage: Tensor,
    box: Box,
    lattice: WindowLattice,
    estimates: tuple[Tensor, Tensor] | None = None,
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
    coverage
        Share of the tilts that see each voxel, float32 ``(z, rows, columns)`` or of one row.
    box
        Place of the block, without the r rows.
    lattice
        Windows of the restorer's stride.
    estimates
        Of a repeated call: x_1 and x_2 of the block, float32 ``(z, rows, columns)`` each.

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
    seen = (DARK + (1 - DARK) * coverage).permute(1, 0, 2).expand(rows, -1, -1)
    before = None if estimates is None else torch.stack(estimates, 1).permute(2, 1, 0, 3)
    out = torch.zeros((rows, thickness, stop - start), device=x_w.device)
    profile = lattice.profile(x_w.device)
    for first in lattice.starts(start, stop, seed=_SEED, iteration=_ITERATION):
        a, b = max(first, start), min(first + lattice.width, stop)
        pad = (a - first, first + lattice.width - b, 0, depth - thickness)

        def window(t: Tensor, a: int = a, b: int = b, pad: tuple[int, ...] = pad) -> Tensor:
            # Contiguous, or the layout of memory, and with it rounding, would depend on the tile.
            return F.pad(t[..., a - start : b - start].contiguous(), pad)

        clean = restorer(
            window(images),
            noise,
            acquisition,
            window(seen),
            None if before is None else window(before),
        )
        clean = clean[:, :thickness, a - first : b - first]
        out[..., a - start : b - start] += clean * profile[a - first : b - first]
    return out.permute(1, 0, 2)
