"""The plan counts the masks of measured samples as they will be in memory."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ddgm_dist.paths.locate import locate
from ddgm_dist.pixels.screen import Screen
from ddgm_dist.planning.config import parse_config
from ddgm_dist.planning.masks import masked_blocks
from ddgm_dist.planning.memory import MemoryModel
from ddgm_dist.planning.problem import Problem
from ddgm_dist.runs.build_problem import build_problem
from ddgm_dist.runs.plan import plan_problem
from ddgm_dist.tile.events import Timer
from ddgm_dist.tile.measured import MeasuredBlocks
from ddgm_dist.tilts.series import TiltSeriesMeta, write_tilt_series

ANGLES = tuple(float(a) for a in range(-50, 51, 10))
ROWS, FIELD = 16, 400
KEYS = {"mean": 0.0, "std": 1.0, "sigma_y": 1.0, "denoiser": "smoother:smooth", "tile_columns": 160}


def held(
    folder: Path, *, rows: int = ROWS, patch: tuple[int, int] | None = None, **case: Any
) -> tuple[int, int, int]:
    """Bytes of a tile's data: projected, held at most, and projected for series without masks."""
    data = np.random.default_rng(0).standard_normal((len(ANGLES), rows, FIELD), np.float32)
    if "missing" in case:
        data[case["missing"]] = np.nan
    shifts = case.get("shifts")
    series = folder / "tilts.zarr"
    meta = TiltSeriesMeta(ANGLES, None if shifts is None else (shifts,) * 11, thickness_px=12)
    write_tilt_series(series, data, meta)
    config = parse_config(KEYS | {"impute_nonfinite": "missing" in case, "tile_rows": 8})
    built = build_problem(locate(series, "tilts"), config.problem())
    problem = built.problem
    if patch is not None:
        problem = replace(problem, screen=Screen(patches=((3, 4, *patch, 0, FIELD),)))
    plan = plan_problem(problem, built.series, config, None, calls=1)
    blocks = MeasuredBlocks(problem, plan.length, built.series, torch.device("cpu"))
    found = [blocks.load(tile, Timer()).bytes for tile in plan.tiles]
    return plan.memory.data, max(found), replace(plan.memory, masked=0).data


@pytest.mark.parametrize(
    ("case", "masked"),
    [
        ({}, False),
        ({"shifts": (0.0, 0.4)}, False),
        ({"shifts": (0.4, 0.0)}, True),
        ({"shifts": (1.0, 0.0)}, True),
        ({"missing": (slice(None), slice(None, None, 4), 190)}, True),
        ({"patch": (0, ROWS)}, True),
        ({"patch": (9, 10)}, True),
        ({"rows": 14}, True),
    ],
    ids=["all measured", "along x", "along y", "whole rows", "missing", "view", "row", "ragged"],
)
@pytest.mark.usefixtures("denoisers")
def test_the_data_of_a_tile_take_what_was_projected(
    tmp_path: Path, case: dict[str, Any], masked: bool
) -> None:
    projected, most, plain = held(tmp_path, **case)
    assert projected == most
    assert (projected > plain) == masked


def test_patches_count_in_the_blocks_that_they_reach(
    make_problem: Callable[..., Problem],
) -> None:
    problem = make_problem(rows=40, rows_per_call=4)
    patches = ((0, 1, 7, 9, 0, 96), (2, 3, 8, 9, 5, 6), (1, 2, 30, 31, 0, 9))
    screened = replace(problem, screen=Screen(patches=patches))
    assert masked_blocks(problem, 8) == 0
    assert masked_blocks(screened, 4) == 1
    assert masked_blocks(screened, 8) == 1  # rows 4 to 12 lie in two tiles
    assert masked_blocks(screened, 12) == 2
    assert masked_blocks(screened, 40) == 3
    assert masked_blocks(replace(problem, screen=Screen(hot=5.0)), 40) == 10


def test_masks_around_blocks_grow_with_the_neighbours() -> None:
    plain = MemoryModel(64, 41, 2048, 4, 2048, 16, restorer_call=(4, 5, 64, 2048))
    full = replace(plain, masked=4)
    each = 4 * 41 * 2048
    assert plain.around == each * 4 * (4 + 2)
    assert full.around == each * 4 * (4 + 4)
    assert full.data - plain.data == each * 4 * 3
    assert replace(plain, masked=2).data - plain.data == each * 2 * 3


def test_data_with_masks_take_more_while_they_are_read_and_dropped() -> None:
    plain = MemoryModel(16, 121, 1280, 4, 1280, 32, coupled=True)
    full = replace(plain, masked=8)
    copies = 8 * 4 * 121 * 4 * 1280
    assert plain.reading == 0
    assert full.reading == copies
    assert full.uncoupled - plain.uncoupled == full.data - plain.data + copies
    assert full.streamed > plain.streamed + 3 * (full.data - plain.data) + copies
    assert replace(plain, masked=0).parts() == plain.parts()
