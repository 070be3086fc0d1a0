"""The driver's loop without Ray: real workers, or scripted ones, in one process."""

from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.engine.base import StepEvent
from ddgm_dist.errors import StorageError
from ddgm_dist.reconstruct import Result
from ddgm_dist.storage.checkpoint import Checkpoints
from tests.engine.inline import InlineEngine

Solve = Callable[..., tuple[np.ndarray, Result]]

COUPLED: dict[str, Any] = {"tile_columns": 64, "margin": 24, "state": "resident"}
KEYS: dict[str, Any] = {"N": 4, "tile_rows": 4, "checkpoint_every": 0}


def steps(engine: InlineEngine) -> Counter[tuple[str, int]]:
    """How often each step was told."""
    return Counter((e.tile, e.iteration) for e in engine.seen if isinstance(e, StepEvent))


def fill_disk(monkeypatch: pytest.MonkeyPatch, failures: float) -> list[StorageError]:
    """Refuse the writes of one tile's checkpoint of two iterations; returns the refusals."""
    write, refused = Checkpoints.write, list[StorageError]()

    def refuse(self: Checkpoints, n: int, column: int, first: int, state: Any) -> Any:
        if (n, column, first) == (2, 1, 4) and len(refused) < failures:
            refused.append(StorageError("writing to the disk failed; 0 bytes are free there"))
            raise refused[-1]
        return write(self, n, column, first, state)

    monkeypatch.setattr(Checkpoints, "write", refuse)
    return refused


def test_a_checkpoint_that_cannot_be_written_once_costs_no_other_step(
    tilts: Path, solve: Solve, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, result = solve(tilts, **KEYS, **COUPLED)
    refused = fill_disk(monkeypatch, 1)
    engine = InlineEngine(monkeypatch)
    volume, _ = solve(tilts, engine, **KEYS, **COUPLED)
    np.testing.assert_array_equal(volume, expected)
    assert len(refused) == 1
    assert [(f.kind, f.action) for f in engine.faults] == [("storage", "redo")]
    # The step whose state could not be written has told nothing before it was done again.
    assert steps(engine) == Counter(product((t.name for t in result.plan.tiles), range(KEYS["N"])))


def test_a_disk_that_stays_full_ends_the_run_and_is_named(
    tilts: Path, solve: Solve, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = fill_disk(monkeypatch, float("inf"))
    engine = InlineEngine(monkeypatch)
    with pytest.raises(StorageError, match="0 bytes are free there"):
        solve(tilts, engine, **KEYS, **COUPLED)
    assert len(refused) == 3
    assert [f.action for f in engine.faults] == ["redo", "redo", "fail"]
    assert {f.kind for f in engine.faults} == {"storage"}
