"""A prior for whole images: all that :func:`~ddgm_dist.algorithm.ddgm.ddgm` needs but the physics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ddgm_dist.algorithm.denoiser import Denoiser
from ddgm_dist.core.box import Box
from ddgm_dist.core.noise import addressed_noise
from ddgm_dist.errors import InputError

__all__ = ["ImagePrior"]


@dataclass(frozen=True)
class ImagePrior:
    """Noise and a denoiser for a stack of (z, x) images that fit into memory whole.

    Attributes
    ----------
    denoiser
        See :class:`~ddgm_dist.algorithm.denoiser.Denoiser`.
    shape
        ``(z, rows, columns)``: ``rows`` images of ``z`` by ``columns`` pixels.
    seed
        Seed of the noise.
    device
        Device on which the noise is made.
    """

    denoiser: Denoiser
    shape: tuple[int, int, int]
    seed: int = 0
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise InputError(
                "shape",
                self.shape,
                "is not (z, rows, columns), each at least 1",
                "a single image is (z, 1, columns)",
            )

    def start(self) -> Tensor:
        """``x = 0``, the mean image; float32 ``(z, rows, columns)``."""
        return torch.zeros(self.shape, device=self.device)

    def noise(self, n: int) -> Tensor:
        """Standard normal noise of iteration n, a function of (seed, n, voxel)."""
        return addressed_noise(self.seed, n, Box((0, 0, 0), self.shape), device=self.device)

    def denoise(self, x: Tensor, sigma: float, n: int) -> Tensor:
        """``E[clean | x]``, every image denoised whole, float32 ``(z, rows, columns)``.

        Images are padded to the denoiser's stride; a mask marks the padding.
        """
        depth, _, columns = x.shape
        stride = self.denoiser.stride
        pad = (0, -columns % stride, 0, -depth % stride)
        images = x.permute(1, 0, 2)
        inside = F.pad(torch.ones_like(images), pad)
        clean = self.denoiser(F.pad(images, pad), sigma, inside)
        return clean[:, :depth, :columns].permute(1, 0, 2)
