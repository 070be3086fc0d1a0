"""Blocks of rows whose mask of measured samples differs from row to row."""

from __future__ import annotations

import itertools

from ddgm_dist.planning.problem import Problem

__all__ = ["masked_blocks"]


def masked_blocks(problem: Problem, tile_rows: int) -> int:
    """Most blocks of a tile whose mask S may be as large as their data.

    A block in which all pixels are measured has one row of S. It is full where views are shifted along
    y, where pixels are masked or missing, and where the block reaches beyond the last row. Hot pixels
    and missing ones may lie in any block.

    Parameters
    ----------
    problem
        Problem that is cut into tiles.
    tile_rows
        Rows that a tile owns.
    """
    g, screen, block, halo = problem.geometry, problem.screen, problem.rows_per_call, problem.halo
    blocks = -(-g.rows // block)
    moved = any(g.shift(t)[0] for t in range(g.tilts))
    anywhere = screen is not None and screen.hot is not None
    if moved or anywhere or problem.config.impute_nonfinite:
        hit = [True] * blocks
    else:
        hit = _patched(problem, blocks)
        hit[-1] |= g.rows % block > 0
    before = [0, *itertools.accumulate(hit)]
    return max(
        before[-(-min(g.rows, y + tile_rows + halo) // block)] - before[max(0, y - halo) // block]
        for y in range(0, g.rows, tile_rows)
    )


def _patched(problem: Problem, blocks: int) -> list[bool]:
    """Blocks that a masked patch reaches."""
    edges, block = [0] * (blocks + 1), problem.rows_per_call
    for _, _, start, stop, _, _ in () if problem.screen is None else problem.screen.patches:
        edges[start // block] += 1
        edges[-(-stop // block)] -= 1
    return [open_here > 0 for open_here in itertools.accumulate(edges[:-1])]
