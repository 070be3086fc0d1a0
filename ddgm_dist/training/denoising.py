"""The training of a denoiser.

The loss is the mean squared error of the network's output F (see :mod:`ddgm_dist.prior.unet`). It
weighs every noise level alike (Karras et al. 2022, table 1, "effective training target").
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ddgm_dist.prior.precision import has_bfloat16
from ddgm_dist.prior.unet import UNet, UNetSpec
from ddgm_dist.training.loop import TrainingOptions
from ddgm_dist.training.patches import PatchSampler

__all__ = ["SIGMA_BANDS", "DenoisingTask", "validation_bands"]

SIGMA_BANDS = (
    (0.01, 0.03),
    (0.03, 0.1),
    (0.1, 0.3),
    (0.3, 1.0),
    (1.0, 3.0),
    (3.0, 10.0),
    (10.0, 30.0),
)


@dataclass(frozen=True)
class DenoisingTask:
    """Removing white noise of any level from patches.

    Attributes
    ----------
    sampler
        Source of patches.
    validation
        Source of fixed patches that are judged; None for none.
    spec
        Architecture.
    """

    sampler: PatchSampler
    validation: PatchSampler | None = None
    spec: UNetSpec = field(default_factory=UNetSpec)

    def network(self) -> UNet:
        """A network with its initial weights."""
        return UNet(self.spec)

    def loss(self, net: UNet, step: int, options: TrainingOptions) -> Tensor:
        """Loss of one step; see the module's docstring."""
        device = net.head.weight.device
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        image, inside = (t.to(device) for t in self.sampler.sample(step, options.batch))
        sigma = _draw_sigma(generator, options.batch, options.sigma_range).to(device)
        noise = torch.randn(image.shape, generator=generator).to(device)
        return _loss(net, image, inside, sigma, noise).mean()

    def judge(self, net: UNet) -> dict[str, float] | None:
        """Loss by band of noise levels."""
        return None if self.validation is None else validation_bands(net, self.validation)


def _draw_sigma(generator: torch.Generator, count: int, bounds: tuple[float, float]) -> Tensor:
    """Noise levels of a batch: one fifth log-uniform, the rest log-normal where DDGM works.

    They are stratified, so that every batch spans the range.
    """
    low, high = math.log(bounds[0]), math.log(bounds[1])
    u = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    centre = torch.special.ndtri(u.clamp(1e-4, 1 - 1e-4)) * 1.3 - 0.7
    spread = low + (high - low) * torch.rand(count, generator=generator)
    chosen = torch.where(torch.rand(count, generator=generator) < 0.2, spread, centre)
    return chosen.clamp(low, high).exp()


def _loss(net: UNet, image: Tensor, inside: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of F per image, over the inside of the specimen."""
    s = sigma[:, None, None]
    scale = torch.rsqrt(1 + s * s)
    noisy = (image + s * noise) * scale
    fast = has_bfloat16(image.device)
    with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=fast):
        predicted = net(noisy, sigma, inside)
    # D = x / (1 + s^2) + s / sqrt(1 + s^2) F solved for the F that makes D the clean image.
    target = (image * s - noise) * scale
    error = (predicted.float() - target).square() * inside
    per_image: Tensor = error.sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp(min=1)
    return per_image


@torch.no_grad()
def validation_bands(net: UNet, sampler: PatchSampler, count: int = 24) -> dict[str, float]:
    """Loss of F per band of noise levels, over fixed patches and noise."""
    device = next(net.parameters()).device
    image, inside = (t.to(device) for t in sampler.sample(0, count, augment=False))
    result = {}
    for index, (low, high) in enumerate(SIGMA_BANDS):
        generator = torch.Generator().manual_seed(index)
        u = (torch.arange(count) + 0.5) / count
        sigma = (low * (high / low) ** u).to(device)
        noise = torch.randn(image.shape, generator=generator).to(device)
        losses = torch.cat(
            [
                _loss(net, image[i : i + 8], inside[i : i + 8], sigma[i : i + 8], noise[i : i + 8])
                for i in range(0, count, 8)
            ]
        )
        result[f"{low:g}-{high:g}"] = float(losses.mean())
    return result
