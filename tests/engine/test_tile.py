"""What a solver hands on is of the step that was asked for, whatever else it is still doing."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ddgm_dist.engine.base import Job
from ddgm_dist.engine.blending import Piece
from ddgm_dist.engine.tile import StaleStepError, TileSolver
from ddgm_dist.storage.checkpoint import Generation


def generations(job: Job, count: int) -> dict[int, Generation]:
    """The first ones of a group, in the store."""
    solver, group = TileSolver(job), job.plan.groups[0]
    found, mail = dict[int, Generation](), dict[str, dict[str, Piece]]()
    for n in range(count):
        digests, arriving = dict[str, str](), dict[str, dict[str, Piece]]()
        for tile in group:
            digests |= solver.step(tile, n, mail.get(tile.name, {}), save=True).digests
            others = [t for t in solver.grid.receivers(tile) if t != tile]
            for other, piece in zip(others, solver.pieces(tile, n, others), strict=True):
                assert piece is not None
                arriving.setdefault(other.name, {})[tile.name] = piece
        found[n + 1], mail = Generation(n + 1, digests), arriving
    return found


@pytest.mark.parametrize("disturbed", [False, True])
def test_pieces_are_of_the_step_that_was_asked_for(
    begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, disturbed: bool
) -> None:
    """A step that was given up ends while the state of another one of its tile is being written."""
    job = begin(tile_columns=64, margin=24, N=4)
    tile, other = job.plan.groups[0][:2]
    known = generations(job, 2)
    alone, solver = TileSolver(job), TileSolver(job)
    alone.step(tile, 1, {}, load=known[1])
    save = solver._save

    def slow(*args: Any) -> Any:
        monkeypatch.setattr(solver, "_save", save)
        solver.step(tile, 2, {}, load=known[2])
        return save(*args)

    if disturbed:
        monkeypatch.setattr(solver, "_save", slow)
    solver.step(tile, 1, {}, load=known[1], save=True)
    if disturbed:
        with pytest.raises(StaleStepError, match="not held after 2 iterations"):
            solver.pieces(tile, 1, [other])
        return
    (found,), (expected,) = solver.pieces(tile, 1, [other]), alone.pieces(tile, 1, [other])
    assert found is not None
    assert expected is not None
    np.testing.assert_array_equal(found.values, expected.values)
