"""The sums that say how well the final estimate of a tile explains its data, view by view."""

from __future__ import annotations

import torch
from torch import Tensor

from ddgm_dist.core.box import Box
from ddgm_dist.core.view_sums import ViewSums
from ddgm_dist.operators.slab.operator import SlabOperator
from ddgm_dist.operators.slab.residual_sums import sums_of_residual
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.tile.measured import TileData, blocks

__all__ = ["fit_of_tile"]


def fit_of_tile(
    tile: Tile, estimate: Tensor, box: Box, data: TileData, rows_per_call: int
) -> ViewSums:
    """Sums of the squared residual over the samples that a tile owns.

    A stretched sample belongs to the tile that owns the column in which its ray crosses the middle of
    the slab. So each sample is counted once, however many tiles read it.

    Parameters
    ----------
    tile
        Any tile.
    estimate, box
        Estimate, float32 ``(z, rows, columns)``, over a box of the rows that the tile owns, or more,
        and all columns that it reads.
    data
        The tile's operator and data.
    rows_per_call
        Rows of a block.
    """
    operator, found = data.operator, ViewSums.zero(data.operator.geometry.tilts)
    owned = _owned(tile, operator)
    (z0, _, x0), (z1, _, x1) = box.start, box.stop
    rows = Box((z0, tile.write_box.start[1], x0), (z1, tile.write_box.stop[1], x1))
    for block in blocks(rows, rows_per_call):
        first = block.start[1] - box.start[1]
        given = estimate[:, first : first + block.shape[1]]
        part = torch.zeros(block.shape, device=estimate.device)
        part[:, : given.shape[1]] = given
        measured = data.blocks[block.start[1]]
        found += sums_of_residual(operator, operator.residual(part, measured), measured, owned)
    return found


def _owned(tile: Tile, operator: SlabOperator) -> slice:
    """Columns of the stretched grid that a tile owns; those at the field's ends have all beyond, too."""
    own, field = tile.write_box, operator.geometry.field
    start = 0 if own.start[2] == 0 else own.start[2] - operator.grid_start
    stop = operator.length if own.stop[2] == field else own.stop[2] - operator.grid_start
    return slice(start, stop)
