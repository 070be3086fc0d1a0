"""Training blocks: a few neighbouring rows of a volume, in all orthogonal directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ddgm_dist.training.patches import PLANES, PatchSampler, bend_tone, drawable_planes

__all__ = ["BlockSampler"]

_ZOOM = 1.6
_SURFACES = 0.25

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class BlockSampler:
    """Draws normalised blocks ``(rows, z, x)``; the same generator draws the same blocks.

    Attributes
    ----------
    patches
        Volumes, their normalisation, the planes to draw from, and the probabilities of contrast,
        brightness, zoom, tone and blur (:class:`ddgm_dist.training.patches.PatchSampler`).
    """

    patches: PatchSampler

    def draw(
        self, rng: np.random.Generator, shape: tuple[int, int, int], *, augment: bool = True
    ) -> Floats:
        """Draw one block of zero mean and unit variance, as far as contrast and brightness vary.

        Parameters
        ----------
        rng
            Generator, which is advanced.
        shape
            Rows, thickness and columns. Where a volume is smaller it is mirrored.
        augment
            Change the block as by another microscope or specimen.
        """
        p = self.patches
        sizes = np.array([v.size for v in p.volumes], dtype=np.float64)
        which = int(rng.choice(len(sizes), p=sizes / sizes.sum()))
        volume, (mean, std) = p.volumes[which], p.moments[which]
        zoom = 1.0
        if augment and rng.random() < p.zoom:
            zoom = _ZOOM ** float(rng.uniform(-1, 1))
        order = self._order(rng, which)
        block = _cut(rng, volume.transpose(order), tuple(max(1, round(n * zoom)) for n in shape))
        block = (block - np.float32(mean)) / np.float32(std)
        if not augment:
            return _resampled(block, shape)
        block = _resampled(block, shape)
        if rng.random() < p.tone:
            block = bend_tone(block, rng.uniform(-1, 1))
        if rng.random() < p.blur:
            block = gaussian_filter(block, rng.uniform(0.3, 1.5), mode="reflect")
        block = block * np.exp(np.float32(p.gain * rng.standard_normal()))
        block = block + np.float32(p.offset * rng.standard_normal())
        if rng.random() < _SURFACES:
            _empty_surfaces(rng, block)
        return np.ascontiguousarray(block, dtype=np.float32)

    def _order(self, rng: np.random.Generator, which: int) -> tuple[int, int, int]:
        """Axes of a volume that become rows, z and x: rows along the axis that a plane holds fixed."""
        p = self.patches
        rows = PLANES[str(rng.choice(drawable_planes(p.volumes[which].shape, p.planes, p.size)))]
        z, x = rng.permutation([axis for axis in range(3) if axis != rows])
        return rows, int(z), int(x)


def _cut(rng: np.random.Generator, volume: NDArray[np.generic], shape: tuple[int, ...]) -> Floats:
    """A random part, turned at random, float32; mirrored beyond the ends of what is smaller."""
    index = []
    for extent, wanted in zip(volume.shape, shape, strict=True):
        start = int(rng.integers(max(1, extent - wanted + 1)))
        index.append(slice(start, min(extent, start + wanted)))
    part = volume[tuple(index)].astype(np.float32)
    turned = part[tuple(slice(None, None, int(rng.choice((1, -1)))) for _ in shape)]
    missing = [(0, wanted - have) for wanted, have in zip(shape, part.shape, strict=True)]
    if any(after for _, after in missing):
        turned = np.pad(turned, missing, mode="symmetric")
    return turned


def _resampled(block: Floats, shape: tuple[int, int, int]) -> Floats:
    """A block resampled to a shape: without aliasing within rows, linearly between them."""
    if block.shape == shape:
        return block
    images = torch.from_numpy(np.ascontiguousarray(block))[:, None]
    images = torch.nn.functional.interpolate(
        images, shape[1:], mode="bicubic", antialias=True, align_corners=False
    )[:, 0]
    if len(images) != shape[0]:
        lines = images.reshape(1, len(images), -1).mT
        lines = torch.nn.functional.interpolate(lines, shape[0], mode="linear", align_corners=False)
        images = lines.mT.reshape(shape)
    resampled: Floats = images.contiguous().numpy()
    return resampled


def _empty_surfaces(rng: np.random.Generator, block: Floats) -> None:
    """Fill what lies above and below a specimen, whose surfaces are planes, with a constant."""
    _, depth, width = block.shape
    z = np.arange(depth)[:, None]
    x = np.linspace(-1, 1, width)[None]
    level = np.float32(rng.uniform(-3, 1.5))
    for sign, end in ((1, 0), (-1, depth - 1)):
        if rng.random() < 0.4:
            continue
        surface = rng.uniform(0, 0.25) * depth + rng.uniform(-0.08, 0.08) * depth * x
        block[:, sign * (z - end) < surface] = level
