"""A disk that is full in the middle of a run, and has room again; the disk is real, of 4 MiB."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.engine.local import LocalEngine
from ddgm_dist.errors import StorageError
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.runs.result import Result
from ddgm_dist.tile.events import Event, Receipt, Report
from ddgm_dist.tile.job import Job
from tests.ray_engine.inline import InlineEngine

Solve = Callable[..., tuple[np.ndarray, Result]]
COUPLED: dict[str, Any] = {"tile_columns": 64, "margin": 24, "state": "memory"}
KEYS: dict[str, Any] = {"N": 3, "K": 5, "rows_per_call": 2, "tile_rows": 2, "checkpoint_every": 0}


class Disk:
    """A small file system, and a file that takes all its room."""

    def __init__(self, root: Path) -> None:
        self.root, self.ballast = root, root / "ballast"

    def fill(self) -> None:
        with self.ballast.open("wb", buffering=0) as file:
            for size in (2**16, 2**12, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue

    def empty(self) -> None:
        self.ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    root = tmp_path / "disk"
    root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(root)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system cannot be mounted here: {error}")
    try:
        yield Disk(root)
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)


class Local(LocalEngine):
    """Shows its events to somebody, and keeps them."""

    def __init__(self, watch: Callable[[Event], None] | None = None) -> None:
        self.watch, self.seen = watch, list[Event]()

    def run(self, job: Job, done: frozenset[str], report: Report) -> None:
        def listen(event: Event) -> None:
            self.seen.append(event)
            report(event)
            if self.watch:
                self.watch(event)

        super().run(job, done, listen)


@pytest.mark.parametrize("cut", [{}, COUPLED], ids=["free", "coupled"])
@pytest.mark.parametrize("kind", ["local", "ray"])
def test_the_run_ends_with_the_disk_named_and_goes_on_when_there_is_room(
    tilts: Path,
    solve: Solve,
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    cut: dict[str, Any],
) -> None:
    """On Ray's loop two retries come before; this process does not wait."""
    expected, _ = solve(tilts, **KEYS, **cut)
    receipts: list[str] = []

    def watch(event: Event) -> None:
        if isinstance(event, Receipt):
            receipts.append(event.tile)
            if len(receipts) == 2:
                disk.fill()

    def engine(watch: Callable[[Event], None] | None = None) -> Any:
        return Local(watch) if kind == "local" else InlineEngine(monkeypatch, 1, watch)

    out, keys = disk.root / "out.zarr", {**KEYS, **cut, "denoiser": "smoother:smooth"}
    first = engine(watch)
    with pytest.raises(
        StorageError, match=r"writing \d+ bytes to .*/disk/out\.zarr.* free"
    ) as caught:
        reconstruct(tilts, out, keys, first)
    assert "\n" not in str(caught.value)
    assert len(receipts) >= 2
    if kind == "ray":
        *redone, last = [(f.kind, f.action) for f in first.faults]
        assert last == ("storage", "fail")
        assert set(redone) == {("storage", "redo")}
        assert 2 <= len(redone) <= 4  # two of each call in flight
    disk.empty()
    again = engine()
    result = reconstruct(tilts, out, keys, again)
    np.testing.assert_array_equal(result.to_dask().compute(), expected)
    done = {event.tile for event in again.seen if isinstance(event, Receipt)}
    assert done.isdisjoint(receipts)
