"""The answer does not depend on the plan: tiles, threads, neighbours."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.runs.result import Result
from ddgm_dist.tile.events import Receipt, StepEvent

Solve = Callable[..., tuple[np.ndarray, Result]]
MakeTilts = Callable[..., Path]

# Scales given, not estimated: what is tested is what comes after.
SPECIMENS = [
    {"boundary": "extended"},
    {"boundary": "vacuum", "mean": 60.0, "std": 50.0},
]
COUPLED = {"tile_columns": 48, "margin": 24}
SHIFTS = tuple((0.25 * (t % 5) - 0.5, 0.5 * (t % 3)) for t in range(11))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(20 * np.log10((b.max() - b.min()) / np.sqrt(np.mean((a - b) ** 2))))


@pytest.mark.parametrize("boundary", SPECIMENS, ids=["extended", "vacuum"])
@pytest.mark.parametrize("shifts", [None, SHIFTS], ids=["aligned", "shifted"])
def test_cuts_along_y_do_not_change_a_bit(
    make_tilts: MakeTilts, solve: Solve, boundary: dict[str, Any], shifts: Any
) -> None:
    tilts = make_tilts(rows=7, isolated=boundary["boundary"] == "vacuum", shifts=shifts)
    whole, _ = solve(tilts, **boundary, tile_rows=8)
    assert whole.shape == (12, 7, 100)
    for rows in (2, 4):
        split, result = solve(tilts, **boundary, tile_rows=rows)
        assert len(result.plan.tiles) == -(-7 // rows)
        np.testing.assert_array_equal(split, whole)


def test_cuts_along_y_do_not_change_a_bit_of_coupled_tiles(
    make_tilts: MakeTilts, solve: Solve
) -> None:
    tilts = make_tilts(field=144)
    whole, result = solve(tilts, tile_rows=8, **COUPLED)
    assert result.plan.order == "step-major"
    assert len(result.plan.groups[0]) == 3
    split, result = solve(tilts, tile_rows=2, **COUPLED)
    assert len(result.plan.groups) == 4
    np.testing.assert_array_equal(split, whole)


def test_the_volume_is_near_the_truth(
    make_tilts: MakeTilts, solve: Solve, truth: np.ndarray
) -> None:
    """A check of units, axes and signs, not of quality."""
    volume, result = solve(make_tilts(noise=0.0), N=8, K=20)
    assert result.problem.intensity.mean == pytest.approx(100, rel=0.02)
    assert result.problem.intensity.std == pytest.approx(20, rel=0.3)
    inner = (..., slice(10, -10))
    assert np.corrcoef(volume[inner].ravel(), truth[inner].ravel())[0, 1] > 0.8


@pytest.mark.parametrize("boundary", SPECIMENS, ids=["extended", "vacuum"])
def test_cuts_along_x_change_next_to_nothing(
    make_tilts: MakeTilts, solve: Solve, boundary: dict[str, Any]
) -> None:
    tilts = make_tilts(field=144, rows=4, isolated=boundary["boundary"] == "vacuum")
    keys = {**boundary, "N": 20, "K": 20}
    whole, _ = solve(tilts, **keys)
    # With a margin as short as the reach it is the exchange between tiles that does it.
    for margin, least in ((8, 36), (24, 44)):
        split, result = solve(tilts, **keys, tile_columns=48, margin=margin)
        assert len(result.plan.groups[0]) == 3
        assert psnr(split, whole) >= least


def test_the_number_of_threads_does_not_change_a_bit(make_tilts: MakeTilts, solve: Solve) -> None:
    """With the network, whose convolutions are what threads share."""
    tilts = make_tilts(rows=2, field=24)
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(solve(tilts, denoiser="fibsem", N=1)[0])
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(found[0], found[1])


def test_windows_do_not_depend_on_tiles(make_tilts: MakeTilts, solve: Solve) -> None:
    """Several denoiser windows across the field, cut along y."""
    tilts = make_tilts(rows=4)
    keys = {"window": 64, "overlap": 16, "N": 2}
    whole, result = solve(tilts, tile_rows=4, **keys)
    assert not result.problem.lattice.single
    np.testing.assert_array_equal(solve(tilts, tile_rows=2, **keys)[0], whole)


@pytest.mark.parametrize(
    ("key", "value"), [("seed", 1), ("N", 2), ("K", 4), ("sigma_1", 2.0), ("data_weight_cap", 0.01)]
)
def test_another_problem_has_another_answer(
    tilts: Path, solve: Solve, key: str, value: float
) -> None:
    assert not np.array_equal(solve(tilts)[0], solve(tilts, **{key: value})[0])


@pytest.mark.parametrize(
    "cut",
    [
        {},
        {"tile_columns": 48, "margin": 16},
        {"planes": ["zx", "zy"], "window_rows": 16, "overlap_rows": 4},
    ],
    ids=["free", "coupled", "planes"],
)
def test_every_step_and_tile_is_reported_once(
    make_tilts: MakeTilts, solve: Solve, cut: dict[str, Any]
) -> None:
    seen: list[StepEvent | Receipt] = []

    class Listening(LocalEngine):
        def run(self, job: Any, done: Any, report: Any) -> None:
            def both(event: Any) -> None:
                seen.append(event)
                report(event)

            super().run(job, done, both)

    _, result = solve(make_tilts(field=96, rows=7), Listening(), tile_rows=4, **cut)
    receipts = [e for e in seen if isinstance(e, Receipt)]
    steps = [e for e in seen if isinstance(e, StepEvent)]
    assert sorted(r.tile for r in receipts) == sorted(t.name for t in result.plan.tiles)
    assert len({r.digest for r in receipts}) == len(receipts)
    assert len(steps) == len(receipts) * result.plan.iterations
    # Voxels of the volume: neither rows that fill up a block nor halos count.
    work = 12 * 7 * 96 * result.plan.iterations
    assert sum(s.voxels for s in steps) == sum(r.work for r in receipts) == work
    progress = RunRecord(Path(result.path)).read_json("progress")
    assert progress is not None
    assert (progress["voxels_done"], progress["voxels_total"]) == (work, work)
    for phase in ("gradient", "noise", "denoise"):
        assert all(s.seconds.get(phase, -1) >= 0 for s in steps)
    assert all(r.seconds.get("write", -1) >= 0 for r in receipts)
