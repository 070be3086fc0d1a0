"""Coupled tiles: smooth windows along x that sum to one, and the pieces tiles hand each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddgm_dist.core.box import Box
from ddgm_dist.plan.tiling import Tile, blend_half_width

__all__ = ["Piece", "blend", "blend_window", "cut_pieces", "piece_receivers"]


@dataclass(frozen=True)
class Piece:
    """Weighted voxels that one tile contributes to another's read box.

    Attributes
    ----------
    box
        Where they lie, global.
    values
        Estimate times blending window, float32 ``(z, rows, columns)``.
    """

    box: Box
    values: NDArray[np.float32]


def blend_window(tile: Tile, group: Sequence[Tile], margin: int) -> tuple[int, Tensor]:
    """First column and weights, float32, of a tile's blending window.

    One inside, a squared-sine ramp over the blending zone around each cut that it shares with a
    neighbour. The windows of a group sum to one over the domain.
    """
    half = blend_half_width(margin)
    own, read = tile.write_box, tile.read_box
    leftmost = own.start[2] == min(t.write_box.start[2] for t in group)
    rightmost = own.stop[2] == max(t.write_box.stop[2] for t in group)
    start = read.start[2] if leftmost else own.start[2] - half
    stop = read.stop[2] if rightmost else own.stop[2] + half
    weight = torch.ones(stop - start, dtype=torch.float64)
    position = (torch.arange(2 * half, dtype=torch.float64) + 0.5) / (2 * half)
    ramp = torch.sin(position * torch.pi / 2).square()
    if not leftmost:
        weight[: 2 * half] = ramp
    if not rightmost:
        weight[-2 * half :] = 1 - ramp
    return start, weight.to(torch.float32)


def cut_pieces(
    tile: Tile, estimate: Tensor, group: Sequence[Tile], margin: int
) -> dict[str, Piece]:
    """What each tile of the group, this one included, needs of this tile's estimate.

    Parameters
    ----------
    tile, estimate
        The tile and its estimate over its read box, float32 ``(z, rows, columns)``.
    group
        All tiles coupled to it.
    margin
        Of the plan.

    Returns
    -------
    dict
        Pieces by name of the receiving tile; tiles out of reach are absent.
    """
    start, weight = blend_window(tile, group, margin)
    read = tile.read_box
    pieces = {}
    for other in group:
        first = max(start, other.read_box.start[2])
        stop = min(start + len(weight), other.read_box.stop[2])
        if first >= stop:
            continue
        part = estimate[..., first - read.start[2] : stop - read.start[2]]
        values = part * weight[first - start : stop - start].to(part)
        box = Box((*read.start[:2], first), (*read.stop[:2], stop))
        pieces[other.name] = Piece(box, values.cpu().numpy())
    return pieces


def piece_receivers(tile: Tile, group: Sequence[Tile], margin: int) -> list[str]:
    """Names of the tiles that :func:`cut_pieces` makes pieces for, in its order."""
    start, weight = blend_window(tile, group, margin)
    stop = start + len(weight)
    return [t.name for t in group if t.read_box.start[2] < stop and start < t.read_box.stop[2]]


def blend(read_box: Box, pieces: Mapping[str, Piece]) -> Tensor:
    """Sum of the pieces over a read box, float32 ``(z, rows, columns)``.

    Parameters
    ----------
    read_box
        Of the receiving tile.
    pieces
        By name of the sending tile. They are added in the order of those names, so the sum does
        not depend on who answered first.
    """
    out = torch.zeros(read_box.shape)
    for name in sorted(pieces):
        piece = pieces[name]
        # Arrays that came through the object store are read-only: add, never alias.
        out[piece.box.slices(read_box.start)] += torch.from_numpy(np.array(piece.values))
    return out
