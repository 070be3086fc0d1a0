"""Generations in an object store: what is committed is read, what is dispensable is deleted."""

import numpy as np
import pytest

from ddgm_dist.paths.files import delete, files_below, read_bytes, write_bytes
from ddgm_dist.paths.locate import locate
from ddgm_dist.records.checkpoint import (
    CheckpointDamagedError,
    CheckpointLayout,
    Checkpoints,
    Generation,
)

LAYOUT = CheckpointLayout(columns=2, depth=3, rows=5, support=7, block=2)


def state(iteration: int) -> np.ndarray:
    return np.random.default_rng(iteration).standard_normal((3, 5, 7)).astype(np.float32)


def test_two_generations_are_kept(bucket: str) -> None:
    out = f"{bucket}/out.zarr"
    checkpoints = Checkpoints(locate(out, "out"), LAYOUT, "problem")
    for n in (1, 2, 3):
        digests = checkpoints.write(n, 1, 0, state(n))
        checkpoints.commit("unit", Generation(n, digests))
    folder = locate(out, "out") / "ddgm_dist/generations/problem"
    chunks = sorted("/".join(parts) for parts in files_below(folder, 6))
    assert chunks == [f"{n}/c/1/0/{block}/0" for n in (2, 3) for block in (0, 1, 2)]

    other = Checkpoints(locate(out, "out"), LAYOUT, "problem")
    newest, before = other.generations("unit")
    np.testing.assert_array_equal(other.read(newest, 1, 1, 5), state(3)[:, 1:5])
    damaged = bytearray(read_bytes(folder / "3/c/1/0/1/0") or b"")
    damaged[5] ^= 1
    write_bytes(folder / "3/c/1/0/1/0", bytes(damaged))
    delete(folder / "3/c/1/0/2/0")
    with pytest.raises(CheckpointDamagedError, match="unreadable"):
        other.read(newest, 1, 2, 3)
    with pytest.raises(CheckpointDamagedError, match="missing"):
        other.read(newest, 1, 4, 5)
    np.testing.assert_array_equal(other.read(before, 1, 0, 5), state(2))

    other.forget("unit")
    assert other.committed() == []
    assert files_below(folder, 6) == []
    other.clear()
    assert all(files_below(folder, depth) == [] for depth in range(1, 7))
