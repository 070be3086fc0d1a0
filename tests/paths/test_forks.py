"""A child that was forked after stores had been used is told so; tensorstore would end it by SIGABRT."""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from ddgm_dist.paths.array_io import BulkArray
from ddgm_dist.paths.files import compare_and_swap, get_with_etag
from ddgm_dist.paths.forks import ForkedError, used
from ddgm_dist.paths.object_store import kvstore
from ddgm_dist.records.lease import Lease
from ddgm_dist.tilts.metadata import TiltSeriesMeta
from ddgm_dist.tilts.series import open_tilt_series, write_tilt_series

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def in_a_child(call: Callable[[], object]) -> Any:
    """What a forked child's call raises or returns, or the number of the signal that ended it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            signal.alarm(20)
            try:
                answer: object = call()
            except Exception as error:
                answer = error
            os.write(writer, pickle.dumps(answer))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        told = file.read()
    _, status = os.waitpid(child, 0)
    return pickle.loads(told) if told else os.WTERMSIG(status)


@pytest.fixture
def array(tmp_path: Path) -> BulkArray:
    made = zarr.create_array(tmp_path / "a.zarr", shape=(2, 3, 4), dtype="f4", chunks=(1, 3, 4))
    found = BulkArray(made, tmp_path / "a.zarr", writable=True)
    found.write((slice(0, 2), slice(0, 3), slice(0, 4)), np.ones((2, 3, 4), np.float32))
    return found


def test_every_way_into_a_store_tells_a_forked_child(array: BulkArray, tmp_path: Path) -> None:
    whole = (slice(0, 2), slice(0, 3), slice(0, 4))
    file = tmp_path / "file"
    _, stamp = get_with_etag(file)
    ways: list[Callable[[], object]] = [
        lambda: array.read(whole).sum(),
        lambda: [block.sum() for block in array.read_each([whole], in_flight=2)],
        lambda: array.write(whole, np.zeros((2, 3, 4), np.float32)),
        lambda: kvstore(tmp_path) is None,
        lambda: get_with_etag(file),
        lambda: compare_and_swap(file, b"x", stamp),
        lambda: Lease(tmp_path / "out.zarr").owner,
    ]
    for number, way in enumerate(ways):
        told = in_a_child(way)
        assert isinstance(told, ForkedError), (number, told)
        assert "spawn" in str(told)
    assert array.read(whole).sum() == 24  # nothing has changed, and the parent goes on


def test_a_series_that_was_opened_before_the_fork(tmp_path: Path) -> None:
    path = tmp_path / "tilts.zarr"
    data = np.zeros((3, 4, 8), np.float32)
    write_tilt_series(path, data, TiltSeriesMeta((-10.0, 0.0, 10.0), thickness_px=4))
    series = open_tilt_series(path)
    assert isinstance(in_a_child(lambda: series.read(slice(0, 4)).sum()), ForkedError)


def test_the_parents_lease_outlives_a_child_that_leaves_its_block(tmp_path: Path) -> None:
    (tmp_path / "ddgm_dist").mkdir()
    with Lease(tmp_path) as lease:
        assert in_a_child(lease.release) is None
        assert (tmp_path / "ddgm_dist" / "lease.json").exists()
        lease.check()


def test_a_child_that_runs_another_program_or_was_forked_before_is_not_affected(
    tmp_path: Path,
) -> None:
    used()
    assert subprocess.run([sys.executable, "-c", "pass"], check=False).returncode == 0
    script = (
        "import os\n"
        "from pathlib import Path\n"
        "from ddgm_dist.paths.files import get_with_etag\n"
        "child = os.fork()\n"
        f"found = get_with_etag(Path({str(tmp_path / 'none')!r}))\n"
        "if child == 0: os._exit(7 if found[0] is None else 8)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "7"
