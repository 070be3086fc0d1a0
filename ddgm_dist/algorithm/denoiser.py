"""The interface of a denoiser, and its application to rows of a tile."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ddgm_dist.core.box import Box
from ddgm_dist.core.window import WindowLattice

__all__ = ["Denoiser", "denoise_rows"]


class Denoiser(Protocol):
    """A trained estimate of the clean image, E[image | image + sigma * noise].

    Attributes
    ----------
    stride
        Image extents must be multiples of it.
    """

    @property
    def stride(self) -> int:
        """Image extents must be multiples of it."""

    def __call__(self, x: Tensor, sigma: float, inside: Tensor) -> Tensor:
        """Denoise images.

        Parameters
        ----------
        x
            Noisy images of zero mean and unit variance plus noise, float32 ``(batch, z, x)``.
        sigma
            Standard deviation of the noise.
        inside
            1 where there is specimen, 0 in padding; shape of ``x``.

        Returns
        -------
        Tensor
            Denoised images, float32 ``(batch, z, x)``.
        """


def denoise_rows(
    denoiser: Denoiser,
    x: Tensor,
    sigma: float,
    *,
    box: Box,
    lattice: WindowLattice,
    seed: int,
    iteration: int,
) -> Tensor:
    """Denoise the (z, x) slices of a block of rows, window by window, blended.

    Every call has the shape (rows of the block, padded thickness, window width), wherever the
    window lies. Kernels round differently by shape, and the answer must not depend on tiles.

    Parameters
    ----------
    x
        Noisy block, float32 ``(z, rows, columns)``, occupying ``box``.
    sigma, lattice, seed, iteration
        Noise level; windows; arguments of the lattice's shift.
    """
    thickness = x.shape[0]
    start, stop = box.start[2], box.stop[2]
    depth = -(-thickness // denoiser.stride) * denoiser.stride
    images = x.permute(1, 0, 2)
    out = torch.zeros_like(images)
    profile = lattice.profile(x.device)
    for first in lattice.starts(start, stop, seed=seed, iteration=iteration):
        a, b = max(first, start), min(first + lattice.width, stop)
        pad = (a - first, first + lattice.width - b, 0, depth - thickness)
        part = images[:, :, a - start : b - start]
        noisy = F.pad(part, pad)
        inside = F.pad(torch.ones_like(part), pad)
        clean = denoiser(noisy, sigma, inside)[:, :thickness, a - first : b - first]
        out[:, :, a - start : b - start] += clean * profile[a - first : b - first]
    return out.permute(1, 0, 2)
