"""One step of tiles: what is measured is of the rows that a tile owns, whatever the plane."""

from collections.abc import Callable

import pytest
import torch

from ddgm_dist.tile.events import Timer
from ddgm_dist.tile.iterate import StepStats
from ddgm_dist.tile.job import Job
from ddgm_dist.tile.solver import TileSolver

ROWS = 8  # no multiple of a block's 3
PLANES = ("zx", "zy", "yx")


def stepped(job: Job, n: int) -> tuple[torch.Tensor, list[StepStats]]:
    """An iteration of all tiles, from the same noise."""
    solver, parts, found = TileSolver(job), [], []
    for tile in job.plan.tiles:
        z, _, columns = tile.read_box.shape
        noise = torch.randn((z, ROWS, columns), generator=torch.Generator().manual_seed(0))
        x = noise[:, tile.read_box.y]
        new, stats = solver.iterate(tile, x, n, solver.data.load(tile, Timer()))
        assert new.shape == (z, tile.write_box.shape[1], columns)
        assert torch.equal(x, noise[:, tile.read_box.y])
        parts.append(new)
        found.append(stats)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(noise, torch.randn(noise.shape, generator=generator))  # and is not changed
    return torch.cat(parts, 1), found


@pytest.mark.parametrize("n", range(3), ids=PLANES)
def test_tiles_measure_together_what_the_whole_does(begin: Callable[..., Job], n: int) -> None:
    """Rows of a halo count in no sum, and those that fill up the last block in none either."""
    keys = {"planes": PLANES, "window_rows": 16, "overlap_rows": 4, "rows_per_call": 3, "N": 3}
    whole, (expected,) = stepped(begin(**keys, tile_rows=9), n)
    split, found = stepped(begin(**keys, tile_rows=3, overwrite=True), n)
    assert len(found) == 3
    assert torch.equal(split, whole)
    assert sum(stats.residual for stats in found) == pytest.approx(expected.residual, rel=1e-6)
    assert sum(stats.measured for stats in found) == expected.measured > 0
    for stats in (expected, *found):
        assert stats.seconds.keys() == {"gradient", "noise", "denoise"}
