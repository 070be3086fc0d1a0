"""Denoiser windows on a global lattice, and blending windows that sum to one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddgm_dist.core.noise import LATTICE_STREAM, addressed_integer
from ddgm_dist.errors import InputError

__all__ = ["WindowLattice", "blending_profile", "make_lattice"]


@dataclass(frozen=True)
class WindowLattice:
    """Positions of the denoiser's windows along one axis, columns or rows.

    Windows start at ``origin + shift + j * (width - overlap)`` for all integers j. The shift is drawn
    anew at each iteration, so that seams move over the voxels. When a whole read box fits one
    window there is one per box, and no seam inside it.

    Attributes
    ----------
    origin
        First column of the problem's domain (not of a tile): the lattice is global.
    width
        Columns per window, a multiple of the denoiser's stride.
    overlap
        Columns that neighbouring windows share. Its outer quarters carry no weight: an output near
        a window's border lacks context.
    stride
        Stride of the denoiser. Windows that cover a box start at a multiple of it from the origin.
    single
        True if one window covers a read box.
    stream
        Stream of the shift's random numbers: lattices along different axes shift independently.
    """

    origin: int
    width: int
    overlap: int
    stride: int
    single: bool
    stream: int = LATTICE_STREAM

    def starts(self, start: int, stop: int, *, seed: int, iteration: int) -> list[int]:
        """First columns of the windows that carry weight somewhere in ``[start, stop)``."""
        if self.single:
            return [start - (start - self.origin) % self.stride]
        pitch = self.width - self.overlap
        shift = self.origin + addressed_integer(seed, iteration, pitch, stream=self.stream)
        guard = self.overlap // 4
        first = -((shift + self.width - guard - 1 - start) // pitch)
        last = (stop - 1 - guard - shift) // pitch
        return [shift + j * pitch for j in range(first, last + 1)]

    def profile(self, device: torch.device | str = "cpu") -> Tensor:
        """Blending weights of one window, float32 ``(width,)``."""
        if self.single:
            return torch.ones(self.width, device=device)
        return blending_profile(self.width, self.overlap, device=device)


def blending_profile(width: int, overlap: int, *, device: torch.device | str = "cpu") -> Tensor:
    """Weights that sum to one over windows placed every ``width - overlap`` columns.

    They follow a squared-sine ramp over the middle half of the overlap, and are zero in its outer
    quarter.

    Returns
    -------
    Tensor
        Float32 ``(width,)``.
    """
    guard = overlap // 4
    ramp_length = overlap - 2 * guard
    position = (torch.arange(ramp_length, dtype=torch.float64) + 0.5) / max(ramp_length, 1)
    ramp = torch.sin(position * torch.pi / 2) ** 2
    profile = torch.ones(width, dtype=torch.float64)
    profile[:guard] = 0
    profile[guard : guard + ramp_length] = ramp
    if overlap:
        profile[width - guard :] = 0
        profile[width - guard - ramp_length : width - guard] = 1 - ramp
    return profile.to(device=device, dtype=torch.float32)


def make_lattice(
    domain: tuple[int, int],
    *,
    max_width: int,
    overlap: int,
    stride: int,
    extent: int | None = None,
    stream: int = LATTICE_STREAM,
    argument: str = "window",
) -> WindowLattice:
    """The lattice of a domain: one window per read box if it fits, else windows that overlap.

    Parameters
    ----------
    domain
        First and last column, or row, (exclusive) of the problem.
    max_width, overlap, stride
        Widest window and shared columns; stride of the denoiser.
    extent
        Columns of the widest read box; the whole domain when None.
    stream
        Stream of the shift's random numbers.
    argument
        The user's name for ``max_width``, for messages.

    Raises
    ------
    InputError
        If windows this narrow cannot overlap that much.
    """
    columns = domain[1] - domain[0]
    # A read box that starts inside the domain may start up to a stride after its window.
    slack = stride - 1 if extent is not None and extent < columns else 0
    whole = -(-(min(columns, extent or columns) + slack) // stride) * stride
    if whole <= max_width:
        return WindowLattice(domain[0], whole, 0, stride, single=True, stream=stream)
    width = max_width // stride * stride
    if width < max(stride, 2 * overlap):
        raise InputError(
            argument,
            max_width,
            f"must be at least twice the overlap of {overlap} pixels, or each pixel would be "
            "denoised more than twice",
            "choose a wider window or a smaller overlap",
        )
    return WindowLattice(domain[0], width, overlap, stride, single=False, stream=stream)
