"""Denoising planes in rotation couple all tiles, and cuts along y still do not change a bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.runs.result import Result

Solve = Callable[..., tuple[np.ndarray, Result]]
MakeTilts = Callable[..., Path]

PLANES = {"planes": ("zx", "zy", "yx"), "window_rows": 16, "overlap_rows": 4, "N": 6}
COUPLED = {"tile_columns": 48, "margin": 24}


@pytest.fixture(scope="module")
def tilts(make_tilts: MakeTilts) -> Path:
    return make_tilts(rows=26, field=144)


@pytest.mark.parametrize("cut", [{}, COUPLED, {"window": 64, "overlap": 16}])
def test_cuts_along_y_do_not_change_a_bit(tilts: Path, solve: Solve, cut: dict[str, Any]) -> None:
    whole, result = solve(tilts, **PLANES, **cut, tile_rows=26)
    columns = 3 if "margin" in cut else 1
    assert len(result.plan.tiles) == columns
    for rows, state in ((4, "memory"), (10, "store")):
        split, result = solve(tilts, **PLANES, **cut, tile_rows=rows, state=state)
        assert result.plan.order == "step-major"
        assert [len(group) for group in result.plan.groups] == [columns * -(-26 // rows)]
        np.testing.assert_array_equal(split, whole)


def test_planes_matter_and_are_part_of_the_problem(tilts: Path, solve: Solve) -> None:
    found = [
        solve(tilts, **{**PLANES, "planes": planes})[0]
        for planes in (("zx",), ("zx", "zy"), "zx,zy,yx")
    ]
    assert not np.array_equal(found[0], found[1])
    assert not np.array_equal(found[1], found[2])


def test_the_last_iteration_may_be_of_any_plane(tilts: Path, solve: Solve) -> None:
    """And the volume is close to that of one plane alone: units and axes are right."""
    one, _ = solve(tilts, N=9, K=20)
    for planes in (("zy",), ("yx",)):
        other, _ = solve(tilts, N=9, K=20, planes=planes, window_rows=16, overlap_rows=4)
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.8


@pytest.mark.ray
@pytest.mark.usefixtures("two_cpus")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_ray_gives_the_same_bits(tilts: Path, solve: Solve) -> None:
    from ddgm_dist.ray_engine.engine import RayEngine

    whole, _ = solve(tilts, **PLANES, tile_rows=26)
    for state in ("memory", "store"):
        split, _ = solve(tilts, RayEngine(workers=2), **PLANES, tile_rows=6, state=state)
        np.testing.assert_array_equal(split, whole)
