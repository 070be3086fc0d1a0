"""Coupled tiles: smooth windows along x that sum to one, and the pieces tiles hand each other.

A tile's *state* is its estimate times its window, over the window's support and the rows it owns.
The blended volume is the sum of all states; along y states only lie side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddgm_dist.core.box import Box
from ddgm_dist.planning.tiling import Tile, blend_half_width, window_support

__all__ = ["Piece", "blend", "blend_window", "cut_piece"]


@dataclass(frozen=True)
class Piece:
    """Weighted voxels that one tile contributes to another's read box.

    Attributes
    ----------
    box
        Box of the voxels in the volume.
    values
        Estimate times blending window, float32 ``(z, rows, columns)``.
    """

    box: Box
    values: NDArray[np.float32] | Tensor


def blend_window(tile: Tile, field: int, margin: int) -> tuple[int, Tensor]:
    """First column and weights, float32, of a tile's blending window.

    One inside, a squared-sine ramp over the blending zone around each cut that it shares with a
    neighbour. The windows of a row of tiles sum to one over the domain.
    """
    half = blend_half_width(margin)
    start, stop = window_support(tile, field, margin)
    weight = torch.ones(stop - start, dtype=torch.float64)
    position = (torch.arange(2 * half, dtype=torch.float64) + 0.5) / (2 * half)
    ramp = torch.sin(position * torch.pi / 2).square()
    if tile.write_box.start[2] != 0:
        weight[: 2 * half] = ramp
    if tile.write_box.stop[2] != field:
        weight[-2 * half :] = 1 - ramp
    return start, weight.to(torch.float32)


def cut_piece(box: Box, state: Tensor, receiver: Tile) -> Piece | None:
    """Cut the part of a tile's state that another tile needs; None when it is out of reach.

    Parameters
    ----------
    box
        Global voxels of the state.
    state
        Float32 ``(z, rows, columns)``.
    receiver
        The other tile.
    """
    common = box.intersection(receiver.read_box)
    if common is None:
        return None
    part = state[common.slices(box.start)]
    return Piece(common, part.cpu().numpy())


def blend(read_box: Box, pieces: Mapping[str, Piece], device: torch.device | str = "cpu") -> Tensor:
    """Sum of the pieces over a read box, float32 ``(z, rows, columns)``.

    Parameters
    ----------
    read_box
        Read box of the receiving tile.
    pieces
        Pieces by name of the sending tile. They are added in the order of those names, so the sum does
        not depend on who answered first.
    device
        Device of the sum.
    """
    out = torch.zeros(read_box.shape, device=device)
    for name in sorted(pieces):
        piece = pieces[name]
        values = piece.values
        if not isinstance(values, Tensor):
            # Arrays that came through the object store are read-only, which torch warns about.
            values = torch.from_numpy(values if values.flags.writeable else values.copy())
        out[piece.box.slices(read_box.start)] += values.to(device)
    return out
