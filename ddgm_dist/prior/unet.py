"""A local, noise-conditioned U-Net: the denoiser's network.

The network is *local*: no normalisation or attention over space, hence a finite receptive field
(:attr:`UNet.reach`). A window with that much context, aligned to the network's stride on the
global lattice, gives what the untiled image gives.

Preconditioning follows Karras et al. 2022 (arXiv 2206.00364, eq. 7 with sigma_data = 1): the
network F sees unit variance and predicts unit variance at every noise level, and

    D(x, sigma)   = x / (1 + sigma^2) + sigma / sqrt(1 + sigma^2) * F(x / sqrt(1 + sigma^2), sigma)
    eps_hat       = (x - D) / sigma        (the noise prediction of DDGM)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["LocalUNet", "LocalUNetSpec", "UNet", "UNetSpec", "noise_features"]


@dataclass(frozen=True)
class LocalUNetSpec:
    """Architecture of a :class:`LocalUNet`.

    Attributes
    ----------
    channels
        Channels per resolution level, finest first. Multiples of 32 run fastest in bfloat16.
    encoder_blocks, decoder_blocks
        Residual blocks per level above the coarsest one.
    middle_blocks
        Residual blocks at the coarsest level.
    embedding
        Width of the embedding of what the network is given beside its images.
    """

    channels: tuple[int, ...] = (32, 64, 128, 192)
    encoder_blocks: tuple[int, ...] = (1, 1, 2)
    decoder_blocks: tuple[int, ...] = (1, 1, 2)
    middle_blocks: int = 2
    embedding: int = 128

    def __post_init__(self) -> None:
        levels = len(self.channels) - 1
        if len(self.encoder_blocks) != levels or len(self.decoder_blocks) != levels:
            raise ValueError(
                f"encoder_blocks {self.encoder_blocks} and decoder_blocks {self.decoder_blocks} "
                f"need one entry for each of the {levels} levels above the coarsest"
            )

    @property
    def stride(self) -> int:
        """Pixels of the image per pixel of the coarsest level."""
        return 1 << (len(self.channels) - 1)

    @property
    def reach(self) -> int:
        """Receptive-field radius in pixels: context beyond it cannot change an output."""
        reach = 2 + 2 * self.middle_blocks * self.stride
        for level, (n, m) in enumerate(zip(self.encoder_blocks, self.decoder_blocks, strict=True)):
            reach += 2 * (n + m) * 2**level
        return reach + self.stride  # a stride's cell is read whole, wherever the pixel lies in it

    def check_extents(self, images: Tensor) -> None:
        """Refuse images whose last two extents are not multiples of the stride."""
        if images.shape[-1] % self.stride or images.shape[-2] % self.stride:
            raise ValueError(
                f"image extents {tuple(images.shape[-2:])} are not multiples of {self.stride}"
            )

    def activation(self, itemsize: int) -> float:
        """Bytes per pixel of an image that one call holds at its peak, besides the network.

        On the way up each level holds its upscaled input, its result and the coarser level's result. It
        also holds the skip connections of its own and finer levels. Image, mask and scaled image are
        float32.

        Parameters
        ----------
        itemsize
            Bytes per number of the network.
        """
        sizes = [c / (1 << 2 * level) for level, c in enumerate(self.channels)]
        peaks = [
            sum(sizes[:i]) + 3 * size + following
            for i, (size, following) in enumerate(zip(sizes, [*sizes[1:], 0.0], strict=True))
        ]
        return itemsize * max(peaks) + 12


@dataclass(frozen=True)
class UNetSpec(LocalUNetSpec):
    """Architecture of :class:`UNet`, as stored in the JSON recipe beside the weights."""


class ResidualBlock(nn.Module):
    """``x + conv(relu(film(conv(relu(x)))))``; starts as the identity."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * channels)
        nn.init.kaiming_normal_(self.conv1.weight)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.film(embedding)[:, :, None, None].to(x.dtype).chunk(2, dim=1)
        h = self.conv1(x.relu())
        # In place where autograd allows it, as each new tensor costs its pages. At most three tensors
        # of this size live at a time.
        h = torch.addcmul(shift, h, 1 + scale, out=None if torch.is_grad_enabled() else h).relu_()
        out: Tensor = self.conv2(h).add_(x)
        return out


class Resolution(nn.ModuleList):
    """A run of residual blocks at one resolution."""

    def __init__(self, channels: int, blocks: int, embedding: int) -> None:
        super().__init__(ResidualBlock(channels, embedding) for _ in range(blocks))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for block in self:
            x = block(x, embedding)
        return x


class LocalUNet(nn.Module):
    """The levels of a U-Net, without its first and last convolution."""

    spec: LocalUNetSpec

    def _make_levels(self, spec: LocalUNetSpec) -> None:
        widths, e = spec.channels, spec.embedding
        self.encoder = nn.ModuleList(
            Resolution(c, n, e) for c, n in zip(widths, spec.encoder_blocks, strict=False)
        )
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.middle = Resolution(widths[-1], spec.middle_blocks, e)
        # A 1x1 convolution and a pixel shuffle: cheaper on CPU than a transposed convolution.
        self.up = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(
            Resolution(c, n, e) for c, n in zip(widths, spec.decoder_blocks, strict=False)
        )

    @property
    def reach(self) -> int:
        """Receptive-field radius in pixels: context beyond it cannot change an output."""
        return self.spec.reach

    def _through_levels(self, h: Tensor, embedding: Tensor) -> Tensor:
        """From the first convolution's result to what the last one is given."""
        skips = []
        for level, down in zip(self.encoder, self.down, strict=True):
            h = level(h, embedding)
            skips.append(h)
            h = down(h)
        h = self.middle(h, embedding)
        for level, up in zip(reversed(self.decoder), reversed(self.up), strict=True):
            h = nn.functional.pixel_shuffle(up(h), 2).add_(skips.pop())
            h = level(h, embedding)
        return h


class UNet(LocalUNet):
    """U-Net over ``(z, x)`` images; see the module's docstring.

    Parameters
    ----------
    spec
        Architecture of the network.
    """

    spec: UNetSpec

    def __init__(self, spec: UNetSpec | None = None) -> None:
        super().__init__()
        self.spec = spec = spec or UNetSpec()
        widths, e = spec.channels, spec.embedding
        self.embed = nn.Sequential(nn.Linear(32, e), nn.SiLU(), nn.Linear(e, e), nn.SiLU())
        self.head = nn.Conv2d(2, widths[0], 3, padding=1)
        self._make_levels(spec)
        self.tail = nn.Conv2d(widths[0], 1, 3, padding=1)
        nn.init.zeros_(self.tail.weight)

    def forward(self, x: Tensor, sigma: Tensor, inside: Tensor) -> Tensor:
        """Predict F for scaled noisy images.

        Parameters
        ----------
        x
            Noisy images divided by ``sqrt(1 + sigma^2)``, shape ``(batch, z, x)``; both extents
            multiples of the stride.
        sigma
            Noise levels, shape ``(batch,)``.
        inside
            1 where there is specimen, 0 in padding; shape of ``x``.
        """
        self.spec.check_extents(x)
        e = self.embed(noise_features(sigma, self.head.weight.dtype))
        h = self._through_levels(self._read(x * inside, inside), e)
        out: Tensor = self.tail(h.relu())[:, 0]
        return out

    def _read(self, x: Tensor, inside: Tensor) -> Tensor:
        """First convolution, with the image split into two bfloat16 parts.

        One bfloat16 keeps 8 bits: at sigma = 0.01 its rounding would rival the noise. A high and a
        low part through the same filters keep 16. Unlike a float32 convolution, they keep the result
        independent of the number of threads.
        """
        dtype = (
            torch.get_autocast_dtype(x.device.type)
            if torch.is_autocast_enabled(x.device.type)
            else self.head.weight.dtype
        )
        high = x.to(dtype)
        low = (x - high.to(x.dtype)).to(dtype)
        image = torch.stack((high, low, inside.to(dtype)), dim=1)
        image = image.contiguous(memory_format=torch.channels_last)
        w = self.head.weight
        filters = torch.cat((w[:, :1], w), dim=1)
        return nn.functional.conv2d(image, filters, self.head.bias, padding=1)


def noise_features(sigma: Tensor, dtype: torch.dtype) -> Tensor:
    """Fourier features of log(sigma), shape ``(batch, 32)``; smooth over sigma 0.01 to 30."""
    phase = torch.log(sigma.float())[:, None] / 4
    frequency = math.pi * torch.linspace(0.25, 4.0, 16, device=sigma.device)
    return torch.cat((torch.sin(phase * frequency), torch.cos(phase * frequency)), dim=1).to(dtype)
