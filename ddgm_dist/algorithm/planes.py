"""Denoising in other planes than (z, x): slices (z, y) at constant x, slices (y, x) at constant z.

A network of images knows two of three dimensions. Rotating its plane from iteration to iteration
makes the volume consistent along all of them. Slices are cut into windows along y on a global
lattice, shifted per iteration. Every call has the same shape, wherever its window lies. So a tile
that reads `halo_rows` beyond its own rows gets the same result, however the rows are cut.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ddgm_dist.algorithm.denoiser import Denoiser
from ddgm_dist.core.box import Box
from ddgm_dist.core.window import WindowLattice

__all__ = ["Plane", "denoise_plane", "halo_rows"]

Plane = Literal["zx", "zy", "yx"]


def halo_rows(lattice: WindowLattice, block: int) -> int:
    """Rows that a tile reads beyond its own on each side, in whole blocks.

    No window that carries weight in a row of the tile reaches farther.
    """
    far = lattice.width if lattice.single else lattice.width - lattice.overlap // 4 - 1
    return -(-far // block) * block


def denoise_plane(
    denoiser: Denoiser,
    x: Tensor,
    sigma: float,
    *,
    plane: Plane,
    box: Box,
    own: tuple[int, int],
    rows: int,
    lattice: WindowLattice,
    lattice_rows: WindowLattice,
    batch: int,
    seed: int,
    iteration: int,
) -> Tensor:
    """Denoise the slices of a tile in the plane zy or yx, window by window, blended.

    Parameters
    ----------
    x
        Noisy estimate, float32 ``(z, rows, columns)``, occupying ``box``, whose rows are those of
        ``own`` and a halo of `halo_rows`, clipped to the volume.
    sigma, plane
        Noise level; ``zy`` or ``yx``.
    own
        First and last row (exclusive) to denoise.
    rows
        Rows of the volume; the denoiser sees padding beyond them.
    lattice, lattice_rows
        Windows along x and along y.
    batch
        Slices per call.
    seed, iteration
        Arguments of the lattices' shifts.

    Returns
    -------
    Tensor
        Float32 ``(z, own rows, columns)``.

    Raises
    ------
    ValueError
        If the box lacks rows of a window that is needed.
    """
    first, last = own
    starts = (
        [lattice_rows.origin]
        if lattice_rows.single
        else lattice_rows.starts(first, last, seed=seed, iteration=iteration)
    )
    across = _Cut(box.start[2], box.stop[2], lattice, seed, iteration) if plane == "yx" else None
    # Slices first, then the image: (x, z, y) or (z, y, x).
    slices = x.permute(2, 0, 1) if plane == "zy" else x
    wanted = torch.zeros((x.shape[0], last - first, x.shape[2]), device=x.device)
    out = wanted.permute(2, 0, 1) if plane == "zy" else wanted
    profile = lattice_rows.profile(x.device)
    for window in starts:
        a, b = max(window, 0), min(window + lattice_rows.width, rows)
        if a < box.start[1] or b > box.stop[1]:
            raise ValueError(
                f"rows {box.start[1]}:{box.stop[1]} of the box lack some of the window {a}:{b}"
            )
        low, high = max(a, first), min(b, last)
        weight = profile[low - window : high - window]
        here = slice(a - box.start[1], b - box.start[1])
        pad = (a - window, window + lattice_rows.width - b)
        keep = slice(low - window, high - window)
        target = slice(low - first, high - first)
        for start in range(0, slices.shape[0], batch):
            part = slices[start : start + batch]
            if across is None:
                clean = _zy(denoiser, part[:, :, here], sigma, pad, batch)
                out[start : start + batch, :, target] += clean[:, :, keep] * weight
            else:
                clean = across.denoise(denoiser, part[:, here], sigma, pad, batch)
                out[start : start + batch, target] += clean[:, keep] * weight[:, None]
    return wanted


def _zy(denoiser: Denoiser, part: Tensor, sigma: float, pad: tuple[int, int], batch: int) -> Tensor:
    """Denoise images (z, y) of one window, ``(slices, z, rows)`` to ``(slices, z, width)``."""
    count, depth = part.shape[:2]
    below = -(-depth // denoiser.stride) * denoiser.stride - depth
    padding = (*pad, 0, below, 0, batch - count)
    images = F.pad(part.contiguous(), padding)
    clean = denoiser(images, sigma, F.pad(torch.ones(part.shape, device=part.device), padding))
    return clean[:count, :depth]


class _Cut:
    """Windows along x of the images (y, x) of a box."""

    def __init__(
        self, start: int, stop: int, lattice: WindowLattice, seed: int, iteration: int
    ) -> None:
        self.start, self.stop, self.lattice = start, stop, lattice
        self.firsts = lattice.starts(start, stop, seed=seed, iteration=iteration)

    def denoise(
        self, denoiser: Denoiser, part: Tensor, sigma: float, pad: tuple[int, int], batch: int
    ) -> Tensor:
        """Denoise one window of rows, ``(slices, rows, columns)`` to ``(slices, width, columns)``."""
        count, height = part.shape[0], part.shape[1] + sum(pad)
        profile = self.lattice.profile(part.device)
        out = torch.zeros((count, height, part.shape[2]), device=part.device)
        for first in self.firsts:
            a, b = max(first, self.start), min(first + self.lattice.width, self.stop)
            columns = slice(a - self.start, b - self.start)
            piece = part[:, :, columns]
            padding = (a - first, first + self.lattice.width - b, *pad, 0, batch - count)
            clean = denoiser(F.pad(piece, padding), sigma, F.pad(torch.ones_like(piece), padding))
            out[:, :, columns] += (
                clean[:count, :, a - first : b - first] * profile[a - first : b - first]
            )
        return out
