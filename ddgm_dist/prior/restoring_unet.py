"""The restorer's network: from regularized inverses of neighbouring rows to the clean row between them.

The regularized inverse x_w of a limited-angle tilt series is the specimen, blurred and streaked by the
missing wedge, with the noise that the measured directions let through. The network predicts what is
missing from it, given x_w of the row and of its neighbours, the share of the tilts that see each pixel,
the noise of the projections and the geometry:

    R_1 = x_w[middle row] + F(x_w, coverage; features)

Noise is independent from row to row and tissue is not, so neighbours help. Called again, it is given
its estimate of before, x_1 = R_1, and the data step about it, x_2 (:mod:`ddgm_dist.algorithm.restorer`):

    R_2 = x_2 + F(x_w, coverage, x_1, x_2; features)

As x_w depends on the data alone, and the network is local (:attr:`RestoringUNet.reach`), so do its
results: tiles need no other tile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from ddgm_dist.algorithm.restorer import Acquisition
from ddgm_dist.prior.unet import LocalUNet, LocalUNetSpec, noise_features

__all__ = ["RestoringUNet", "RestoringUNetSpec", "acquisition_features"]

_NOISE, _SHAPE = 64, 7
# Images of a repeated call: the estimate, and the data step about it.
_ESTIMATES = 2


@dataclass(frozen=True)
class RestoringUNetSpec(LocalUNetSpec):
    """Architecture of :class:`RestoringUNet`, as stored in the JSON recipe beside the weights.

    The coarsest level sees 158 pixels to each side. A streak of a slab of 64 voxels is 111 pixels long
    at 60 degrees.

    Attributes
    ----------
    neighbours
        Rows that are given on each side of the one that is restored.
    """

    channels: tuple[int, ...] = (32, 64, 96, 128, 128)
    encoder_blocks: tuple[int, ...] = (1, 1, 2, 1)
    decoder_blocks: tuple[int, ...] = (1, 1, 2, 1)
    middle_blocks: int = 2
    embedding: int = 96
    neighbours: int = 2


class RestoringUNet(LocalUNet):
    """U-Net over ``(z, x)`` images of neighbouring rows; see the module's docstring.

    Parameters
    ----------
    spec
        Architecture of the network.
    """

    spec: RestoringUNetSpec

    def __init__(self, spec: RestoringUNetSpec | None = None) -> None:
        super().__init__()
        self.spec = spec = spec or RestoringUNetSpec()
        self.neighbours = spec.neighbours
        e = spec.embedding
        self.embed = nn.Sequential(
            nn.Linear(_NOISE + _SHAPE, e), nn.SiLU(), nn.Linear(e, e), nn.SiLU()
        )
        given = 2 * spec.neighbours + 2 + _ESTIMATES
        self.head = nn.Conv2d(given, spec.channels[0], 3, padding=1)
        self._make_levels(spec)
        self.tail = nn.Conv2d(spec.channels[0], 1, 3, padding=1)
        for parameter in self.tail.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, images: Tensor, features: Tensor, coverage: Tensor, estimates: Tensor | None = None
    ) -> Tensor:
        """Restored images.

        Parameters
        ----------
        images
            Regularized inverses of rows y-r .. y+r, float32 ``(batch, 2r + 1, z, x)``; both extents
            of an image multiples of the stride.
        features
            From `acquisition_features`, ``(batch, features)``.
        coverage
            0 in padding; within the specimen from `DARK`, where no tilt sees it, to 1, where all do;
            ``(batch, z, x)``.
        estimates
            Restored images of before and data steps about them, ``(batch, 2, z, x)``; None at first.

        Returns
        -------
        Tensor
            Float32 ``(batch, z, x)``.
        """
        self.spec.check_extents(images)
        before = images.new_zeros((len(images), _ESTIMATES, *images.shape[2:]))
        if estimates is not None:
            before = estimates
        inside = coverage[:, None] > 0
        given = torch.cat((images * inside, coverage[:, None], before * inside), dim=1)
        given = given.contiguous(memory_format=torch.channels_last)
        weight = self.head.weight
        h = self.head(given.to(weight.dtype))
        h = self._through_levels(h, self.embed(features.to(weight.dtype)))
        missing: Tensor = self.tail(h.relu())[:, 0].float()
        return missing + (images[:, self.neighbours] if estimates is None else estimates[:, 1])


def acquisition_features(
    noise: Tensor,
    acquisition: Acquisition,
    device: torch.device | str = "cpu",
    *,
    again: bool = False,
) -> Tensor:
    """Noise and geometry as the network is given them, float32 ``(batch, features)``.

    Parameters
    ----------
    noise
        Standard deviation of the projections where the volume has unit variance, ``(batch,)``.
    acquisition
        Geometry, the same for all images.
    device
        Device of the result.
    again
        True for a repeated call, which is given estimates.
    """
    noise = noise.to(device, torch.float32)
    angles = [math.radians(a) for a in acquisition.angles_deg]
    # As in operators.slab.basis.norm_squared: the largest eigenvalue of the normal equations.
    largest = acquisition.thickness * sum(1 / math.cos(a) for a in angles)
    low, high = min(acquisition.angles_deg), max(acquisition.angles_deg)
    ordered = sorted(acquisition.angles_deg)
    gap = max((b - a for a, b in pairwise(ordered)), default=0.0)
    shape = torch.tensor(
        [
            low / 90,
            high / 90,
            math.log2(len(angles) / 61),
            math.log2(acquisition.thickness / 64),
            math.log2(max(high - low, 1.0) / max(len(angles) - 1, 1) / 2),
            gap / 30,
            float(again),
        ],
        device=device,
    )
    relative = noise * (100 / math.sqrt(largest))
    return torch.cat(
        (
            noise_features(noise, torch.float32),
            noise_features(relative, torch.float32),
            shape.expand(len(noise), -1),
        ),
        dim=1,
    )
