"""The plan tells to the byte what coupled tiles hand each other, and what goes through the store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ddgm_dist.records.checkpoint import Checkpoints
from ddgm_dist.tile.blending import Piece
from ddgm_dist.tile.solver import TileSolver

MakeTilts = Callable[..., Path]
KEYS: list[dict[str, Any]] = [
    {"tile_columns": 48, "margin": 24},
    {"tile_columns": 64, "margin": 70, "tile_rows": 4},  # reaches beyond the next tile
    {
        "tile_columns": 48,
        "margin": 24,
        "tile_rows": 4,
        "planes": ["zx", "zy"],
        "window_rows": 16,
        "overlap_rows": 4,
    },
]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    moved = {"exchanged": 0, "written": 0, "read": 0}
    pieces, write, check = TileSolver.pieces, Checkpoints.write, Checkpoints._checked

    def counting_pieces(self: TileSolver, *args: Any) -> list[Piece | None]:
        made = pieces(self, *args)
        moved["exchanged"] += sum(p.values.nbytes for p in made if p is not None)
        return made

    def counting_write(self: Checkpoints, *args: Any) -> dict[str, str]:
        digests = write(self, *args)
        layout = self.layout
        moved["written"] += 4 * len(digests) * layout.depth * layout.block * layout.support
        return digests

    def counting_check(*args: Any) -> Any:
        chunk = check(*args)
        moved["read"] += chunk.nbytes
        return chunk

    monkeypatch.setattr(TileSolver, "pieces", counting_pieces)
    monkeypatch.setattr(Checkpoints, "write", counting_write)
    monkeypatch.setattr(Checkpoints, "_checked", counting_check)
    return moved


@pytest.mark.parametrize("keys", KEYS, ids=["x", "far", "planes"])
@pytest.mark.parametrize("state", ["memory", "store"])
def test_bytes_moved_are_those_of_the_plan(
    solve: Callable[..., Any],
    make_tilts: MakeTilts,
    counted: dict[str, int],
    keys: dict[str, Any],
    state: str,
) -> None:
    iterations = 2
    tilts = make_tilts(rows=9, field=192)  # the last block is not whole
    _, result = solve(tilts, N=iterations, state=state, **keys)
    plan = result.plan
    assert len(plan.groups[0]) > 1
    resident = state == "memory"
    assert counted["exchanged"] == (iterations * plan.traffic.exchanged if resident else 0)
    assert counted["written"] == (0 if resident else iterations * plan.traffic.written)
    # All iterations but the first read, and so does the last blend.
    assert counted["read"] == (0 if resident else iterations * plan.traffic.read)
