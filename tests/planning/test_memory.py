"""The memory model: it grows with everything, and tells what real workers take."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddgm_dist.planning.memory import LIBRARIES, MemoryModel

# A start that takes more than the iterations do.
RESTORING = {"restorer": "restoring:restore", "denoiser": "restoring:idle"}
RESTORER = """
def restore(images, noise, acquisition):
    return images.mean(1)


def idle(x, sigma):
    return x


restore.neighbours = 2
"""

SIZES = ["thickness", "tilts", "length", "rows_per_call", "window", "tile_rows"]


@given(
    values=st.tuples(*[st.integers(1, 5000)] * 6),
    key=st.sampled_from(SIZES),
    more=st.integers(1, 5000),
    coupled=st.booleans(),
)
def test_more_of_anything_never_takes_less_memory(
    values: tuple[int, ...], key: str, more: int, coupled: bool
) -> None:
    blocks = values[3] * values[5]  # tiles are whole blocks
    model = MemoryModel(*values[:5], blocks, coupled=coupled)
    grown = replace(model, **{key: getattr(model, key) + more})
    if key == "rows_per_call":  # a tile of larger blocks
        grown = replace(grown, tile_rows=grown.rows_per_call * values[5])
    assert grown.total >= model.total
    assert grown.gpu() >= model.gpu()
    assert model.total >= LIBRARIES + model.operator + model.denoiser
    assert model.resident(3) >= model.resident(2)


def test_a_worker_of_ray_takes_more_and_other_planes_too() -> None:
    model = MemoryModel(64, 41, 2048, 4, 2048, 32, calls=1)
    assert replace(model, calls=2).total > model.total
    assert replace(model, planes=True).total > model.total
    assert replace(model, largest_call=2 * 64 * 2048 * 4).total > model.total


def test_a_restorer_takes_memory_with_every_neighbour_and_column() -> None:
    calls = [(0, 0, 0, 0), (4, 1, 64, 2048), (4, 3, 64, 2048), (4, 5, 64, 2048), (4, 5, 64, 4096)]
    totals = [
        MemoryModel(64, 41, 2048, 4, 2048, 32, restorer_call=call, restorer_activation=300).total
        for call in calls
    ]
    assert totals == sorted(totals)
    assert len(set(totals)) == len(totals)


@pytest.mark.parametrize(
    "shape",
    [
        (64, 4, 600, 1, {}),
        pytest.param((32, 4, 600, 1, {"precision": "float32"}), marks=pytest.mark.slow),
        pytest.param(
            (64, 4, 600, 1, {"tile_columns": 320, "rows_per_call": 2, "state": "store"}),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            (128, 4, 2000, 1, {"start": "restored", "window": 256, **RESTORING}),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["uncoupled", "float32", "store", "restored"],
)
def test_the_projection_is_within_a_fifth_of_a_real_peak(
    pytestconfig: pytest.Config, tmp_path: Path, shape: tuple[object, ...]
) -> None:
    """A process that solves a small problem; ``benchmarks/memory.py`` has larger ones, and Ray."""
    (tmp_path / "restoring.py").write_text(RESTORER)
    script = pytestconfig.rootpath / "benchmarks" / "memory.py"
    done = subprocess.run(
        [sys.executable, str(script), "--shape", json.dumps(shape)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])},
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert 0.8 <= found["projected"] / found["measured"] <= 1.2, found
