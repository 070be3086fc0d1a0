"""What a solver hands on is of the step that was asked for, whatever else it is still doing."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ddgm_dist.errors import StorageError
from ddgm_dist.records.checkpoint import Generation
from ddgm_dist.tile.blending import Piece
from ddgm_dist.tile.events import SaveEvent, StepEvent
from ddgm_dist.tile.job import Job
from ddgm_dist.tile.solver import Paused, StaleStepError, TileSolver


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


@pytest.mark.parametrize("disturbed", ["never", "while it is saved", "after"])
def test_pieces_are_of_the_step_that_was_asked_for(
    begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, disturbed: str
) -> None:
    """A step that was given up ends while the state of another one of its tile is being written, or
    before its pieces are cut.
    """
    job = begin(tile_columns=64, margin=24, N=4)
    tile, other = job.plan.groups[0][:2]
    known = generations(job, 2)
    alone, solver = TileSolver(job), TileSolver(job)
    alone.step(tile, 1, {}, load=known[1])
    save = solver.states.write

    def slow(*args: Any) -> Any:
        monkeypatch.setattr(solver.states, "write", save)
        solver.step(tile, 2, {}, load=known[2])
        return save(*args)

    if disturbed == "while it is saved":
        monkeypatch.setattr(solver.states, "write", slow)
    solver.step(tile, 1, {}, load=known[1], save=True)
    if disturbed == "after":
        solver.step(tile, 2, {}, load=known[2])
        with pytest.raises(StaleStepError, match="not held after 2 iterations"):
            solver.pieces(tile, 1, [other])
        return
    (found,), (expected,) = solver.pieces(tile, 1, [other]), alone.pieces(tile, 1, [other])
    assert found is not None
    assert expected is not None
    np.testing.assert_array_equal(found.values, expected.values)


def test_a_step_whose_state_cannot_be_saved_can_be_asked_for_again(
    begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the pieces it was given, and to the same bits."""
    job = begin(tile_columns=64, margin=24, N=4)
    tile, other = job.plan.groups[0][:2]
    known, solver = generations(job, 2), TileSolver(job)
    solver.step(tile, 0, {})
    solver.step(other, 0, {})
    (piece,) = solver.pieces(other, 0, [tile])
    assert piece is not None

    def full(*args: Any) -> None:
        raise StorageError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(solver.states.checkpoints, "write", full)
        for _ in range(3):
            with pytest.raises(StorageError, match="no room"):
                solver.step(tile, 1, {other.name: piece}, save=True)
    digests = solver.step(tile, 1, {other.name: piece}, save=True).digests
    assert digests.items() <= known[2].digests.items()
    assert digests


def test_a_tile_that_was_read_ahead_is_put_aside_without_a_step(begin: Callable[..., Job]) -> None:
    """At its beginning and at its checkpoint; one that computes ends its iteration first."""
    job = begin(N=4)
    tile = job.plan.tiles[0]
    assert list(TileSolver(job).run(tile, paused=lambda: True)) == [Paused(tile.name, 0)]
    asked = iter([False, True, True])
    step, save, aside = TileSolver(job).run(tile, paused=lambda: next(asked))
    assert isinstance(step, StepEvent)
    assert isinstance(save, SaveEvent)
    assert aside == Paused(tile.name, 1)
    assert list(TileSolver(job).run(tile, paused=lambda: True)) == [Paused(tile.name, 1)]
