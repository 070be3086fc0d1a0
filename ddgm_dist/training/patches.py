"""Training images: random two-dimensional patches of volumes, in all orthogonal planes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ddgm_dist.errors import InputError

__all__ = ["PLANES", "PatchSampler", "bend_tone", "drawable_planes"]

# Axis of the volume that is held fixed, by name of plane.
PLANES = {"yx": 0, "zx": 1, "zy": 2}

_ZOOM = 1.6
# Sections and rows of a part that statistics are taken from, and parts of each volume.
_PART, _PARTS = (32, 32), 5


@dataclass(frozen=True)
class PatchSampler:
    """Draws normalised patches; the same (seed, step) always draws the same batch.

    Attributes
    ----------
    volumes
        Arrays ``(z, y, x)``, 8- or 16-bit integers or floats. Kept as they are: each patch is
        normalised by its volume's mean and standard deviation when drawn.
    size
        Patch edge in pixels, a multiple of the network's stride.
    planes
        Planes to draw from, of ``yx``, ``zx``, ``zy``. Use only ``yx`` for anisotropic volumes or
        unrelated images.
    seed
        Seed of the sampler.
    gain, offset
        Standard deviations of the random contrast (log-normal) and brightness. A reconstruction
        estimates its intensity map with an error, which the denoiser must tolerate.
    edges
        Probability that a patch shows the border of a slab (part of it is outside).
    vacuum
        Probability that a patch shows a specimen in vacuum: an ellipse in a constant, darker
        background.
    zoom, tone, blur
        Probabilities of changes as by another microscope. Zoom is another pixel size, by a factor of
        up to 1.6 either way. Tone is a bent intensity scale, with up to a third more or less contrast
        in bright than in dark. Blur is a Gaussian of up to 1.5 pixels.
    """

    volumes: Sequence[NDArray[np.generic]]
    size: int = 128
    planes: Sequence[str] = ("yx", "zx", "zy")
    seed: int = 0
    gain: float = 0.08
    offset: float = 0.08
    edges: float = 0.4
    vacuum: float = 0.08
    zoom: float = 0.0
    tone: float = 0.0
    blur: float = 0.0

    def __post_init__(self) -> None:
        if not self.volumes:
            raise InputError("volumes", "[]", "no training images given")
        for plane in self.planes:
            if plane not in PLANES:
                raise InputError("planes", plane, f"is not one of {', '.join(PLANES)}")
        for volume in self.volumes:
            if not self._drawable(volume):
                raise InputError(
                    "volumes",
                    volume.shape,
                    f"no plane among {tuple(self.planes)} is at least {self.size} pixels on each "
                    "side",
                    "give larger images or a smaller patch size",
                )
        # Means are taken once; a frozen dataclass stores them through object.__setattr__.
        moments = [_moments(v) for v in self.volumes]
        for index, (mean, std) in enumerate(moments):
            if not (math.isfinite(mean) and math.isfinite(std)):
                raise InputError(f"volumes[{index}]", mean, "is its mean: it holds NaN or infinity")
            if std == 0:
                raise InputError(f"volumes[{index}]", mean, "is every voxel: it has no contrast")
        object.__setattr__(self, "_moments", moments)

    @property
    def moments(self) -> list[tuple[float, float]]:
        """Mean and standard deviation of each volume, in its own unit."""
        moments: list[tuple[float, float]] = self.__dict__["_moments"]
        return moments

    def parts(self) -> list[NDArray[np.generic]]:
        """Some sections of each volume, of a few million voxels."""
        found = []
        for volume in self.volumes:
            thick, rows = min(_PART[0], volume.shape[0]), max(1, volume.shape[1] // _PART[1])
            starts = np.unique(np.linspace(0, volume.shape[0] - thick, _PARTS).astype(int))
            found += [volume[int(z) : int(z) + thick, ::rows] for z in starts]
        return found

    def _drawable(self, volume: NDArray[np.generic]) -> list[int]:
        if volume.ndim != 3:
            raise InputError("volumes", volume.shape, "a training volume has three axes (z, y, x)")
        return [PLANES[p] for p in drawable_planes(volume.shape, self.planes, self.size)]

    def sample(self, step: int, count: int, *, augment: bool = True) -> tuple[Tensor, Tensor]:
        """Draw ``count`` patches for one training step.

        Returns
        -------
        images, inside
            Float32, shape ``(count, size, size)``: images of unit variance, and 1 where there is
            specimen. Beyond the border of a slab both are 0.
        """
        rng = np.random.default_rng([self.seed, step])
        images = np.stack([self._patch(rng, augment) for _ in range(count)])
        inside = np.ones_like(images)
        if augment:
            for mask in inside:
                _cut_edges(rng, mask, self.edges)
        return torch.from_numpy(images * inside), torch.from_numpy(inside)

    def _patch(self, rng: np.random.Generator, augment: bool) -> NDArray[np.float32]:
        sizes = np.array([v.size for v in self.volumes], dtype=np.float64)
        which = int(rng.choice(len(self.volumes), p=sizes / sizes.sum()))
        volume, (mean, std) = self.volumes[which], self.moments[which]
        axis = int(rng.choice(self._drawable(volume)))
        size = self.size
        # A change of probability 0 draws no number, so that the same seed still draws the same batches.
        if augment and self.zoom and rng.random() < self.zoom:
            largest = min(n for i, n in enumerate(volume.shape) if i != axis)
            size = min(round(size * _ZOOM ** rng.uniform(-1, 1)), largest)
        index: list[int | slice] = []
        for i, n in enumerate(volume.shape):
            start = int(rng.integers(n if i == axis else n - size + 1))
            index.append(start if i == axis else slice(start, start + size))
        patch = (volume[tuple(index)].astype(np.float32) - mean) / std
        if augment:
            patch = _resampled(patch, self.size)
            if self.tone and rng.random() < self.tone:
                patch = bend_tone(patch, rng.uniform(-1, 1))
            if self.blur and rng.random() < self.blur:
                patch = gaussian_filter(patch, rng.uniform(0.3, 1.5), mode="reflect")
            if rng.random() < 0.5:
                patch = patch.T
            patch = patch[:: rng.choice((1, -1)), :: rng.choice((1, -1))]
            patch = patch * np.exp(self.gain * rng.standard_normal())
            patch = patch + self.offset * rng.standard_normal()
            if rng.random() < self.vacuum:
                patch = np.where(_ellipse(rng, self.size), patch, -rng.uniform(1, 4))
        return np.ascontiguousarray(patch, dtype=np.float32)


def drawable_planes(shape: tuple[int, ...], planes: Sequence[str], size: int) -> tuple[str, ...]:
    """The planes in which a volume ``(z, y, x)`` has patches of ``size`` pixels."""
    return tuple(p for p in planes if all(n >= size for i, n in enumerate(shape) if i != PLANES[p]))


def _moments(volume: NDArray[np.generic]) -> tuple[float, float]:
    """Mean and standard deviation, section by section, without a float copy of the volume."""
    with np.errstate(invalid="ignore"):  # infinities: the caller refuses what is not finite
        mean = sum(float(section.sum(dtype=np.float64)) for section in volume) / volume.size
        squares = (float(np.square(section - np.float64(mean)).sum()) for section in volume)
        return mean, math.sqrt(sum(squares) / volume.size)


def _resampled(patch: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """A square patch resampled to edges of ``size`` pixels, without aliasing."""
    if len(patch) == size:
        return patch
    image = torch.from_numpy(np.ascontiguousarray(patch))[None, None]
    resized: NDArray[np.float32] = torch.nn.functional.interpolate(
        image, (size, size), mode="bicubic", antialias=True, align_corners=False
    )[0, 0].numpy()
    return resized


def bend_tone(patch: NDArray[np.float32], bend: float) -> NDArray[np.float32]:
    """A patch on a bent intensity scale, of slope 1 +- bend / 3 far above and below the mean."""
    bent: NDArray[np.float32] = patch + np.float32(bend / 3) * (np.sqrt(1 + patch * patch) - 1)
    return bent


def _ellipse(rng: np.random.Generator, size: int) -> NDArray[np.bool_]:
    """A random ellipse, true inside, shape ``(size, size)``."""
    a, b = rng.uniform(0.3, 1.2, 2) * size
    cy, cx = rng.uniform(0, 1, 2) * size
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[:size, :size] - np.array([cy, cx])[:, None, None]
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    inside: NDArray[np.bool_] = (u / a) ** 2 + (v / b) ** 2 < 1
    return inside


def _cut_edges(rng: np.random.Generator, mask: NDArray[np.float32], probability: float) -> None:
    """Empty the part of a patch that lies outside a random slab, in place."""
    size = mask.shape[0]
    if rng.random() < probability:
        thickness = int(rng.integers(size // 4, size))
        first = int(rng.integers(-size // 4, size))
        last = min(first + thickness, size)
        if last - max(first, 0) >= size // 8:
            mask[: max(first, 0)] = 0
            mask[last:] = 0
    if rng.random() < probability / 3:
        cut = int(rng.integers(size // 2))
        if rng.random() < 0.5:
            mask[:, :cut] = 0
        else:
            mask[:, size - cut :] = 0
