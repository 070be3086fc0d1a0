"""Faults through the real engine: what it does, what it tells, and that no bit changes."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.engine.base import Event, FaultEvent, Job, Receipt, Report, SaveEvent, StepEvent
from ddgm_dist.errors import DdgmError, StorageError
from ddgm_dist.reconstruct import Result, reconstruct
from ddgm_dist.storage.run_record import RunRecord

Solve = Callable[..., tuple[np.ndarray, Result]]
MakeTilts = Callable[..., Path]

COUPLED: dict[str, Any] = {"tile_columns": 48, "margin": 24}
CUTS = pytest.mark.parametrize("cut", [{}, COUPLED], ids=["free", "coupled"])
# Of a run in which something is to go wrong: long enough to be met by it.
KEYS: dict[str, Any] = {"N": 6, "tile_rows": 4, "checkpoint_every": 0}

# Denoisers that give what `smooth` gives, and fail at it in as many ways as there are files.
FAULTY = '''
import os
import signal
import threading
import time
from pathlib import Path

from smoother import smooth

HERE = Path(__file__).parent
calls = 0


def _one_fault(name):
    """Whether there is a file of this name left; takes it."""
    for path in HERE.glob(name + "*"):
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        return True
    return False


def faulty(x, sigma):
    global calls
    calls += 1
    while (HERE / "pause").exists():
        time.sleep(0.05)
    if (HERE / "slow").exists():
        time.sleep(0.2)
    if calls > 2:
        if _one_fault("hang"):
            time.sleep(1e6)
        if _one_fault("stop"):
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(1)
        if _one_fault("memory"):
            import ray

            raise ray.exceptions.OutOfMemoryError("planted")
        if _one_fault("plain-memory"):
            raise MemoryError("planted")
        if _one_fault("full"):
            import ray

            raise ray.exceptions.ObjectStoreFullError("planted")
    return smooth(x, sigma)
'''

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


def watched(watch: Callable[[Event], None] | None = None, **options: Any) -> Any:
    """A Ray engine that keeps its events in ``seen``, and shows them to somebody."""
    from ddgm_dist.engine.ray import RayEngine
    from ddgm_dist.engine.ray_dispatch import Patience

    class Watched(RayEngine):
        def __init__(self) -> None:
            patience = {"pulse": 0.1, "drain": 0.2, "resize": 0.3, "start": 60.0}
            super().__init__(
                patience=Patience(**{**patience, **options.pop("patience", {})}), **options
            )
            self.seen: list[Event] = []

        def run(self, job: Job, done: frozenset[str], report: Report) -> None:
            def listen(event: Event) -> None:
                self.seen.append(event)
                report(event)
                if watch:
                    watch(event)

            super().run(job, done, listen)

        def faults(self) -> list[FaultEvent]:
            return [event for event in self.seen if isinstance(event, FaultEvent)]

    return Watched()


@pytest.fixture(scope="module")
def faults(denoisers: Path) -> Path:
    """Folder in which a file is a fault that is yet to happen."""
    (denoisers / "faulty.py").write_text(FAULTY)
    return denoisers


@pytest.fixture(scope="module")
def cluster(faults: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head without CPUs, to which this process is connected, and a node of two."""
    import ray
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_health_check_period_ms", "500")
        patch.setenv("RAY_health_check_failure_threshold", "4")
        nodes = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        nodes.add_node(num_cpus=2, object_store_memory=80 * 2**20)
        handler = signal.getsignal(signal.SIGTERM)
        ray.init(nodes.address, configure_logging=False, log_to_driver=False)
        signal.signal(signal.SIGTERM, handler)
        yield nodes
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture
def tilts(make_tilts: MakeTilts) -> Path:
    return make_tilts(field=144)


@pytest.fixture
def plant(faults: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a file in the faults' folder; none is left behind."""
    planted = []

    def make(name: str) -> Path:
        path = faults / name
        path.touch()
        planted.append(path)
        return path

    yield make
    for path in planted:
        path.unlink(missing_ok=True)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("kind", "cut"), [("hang", {}), ("stop", {}), ("stop", COUPLED)])
def test_a_stalled_worker_is_replaced(
    tilts: Path, solve: Solve, plant: Callable[[str], Path], kind: str, cut: dict[str, Any]
) -> None:
    """One that still answers is given three times as long as one that does not."""
    expected, _ = solve(tilts, **KEYS, **cut)
    fault = plant(kind)
    # Above twenty times the longest step of a busy machine the engine waits for longer.
    engine = watched(workers=2, patience={"stall": 2.0, "probe": 1.0})
    volume, _ = solve(tilts, engine, **KEYS, **cut, denoiser="faulty:faulty")
    assert not fault.exists()
    np.testing.assert_array_equal(volume, expected)
    # Ray takes five seconds to end a stopped process, whose locks on files may stall another.
    assert {(f.kind, f.action) for f in engine.faults()} == {("stalled", "replace the worker")}
    assert len(engine.faults()) <= 2


@pytest.mark.usefixtures("cluster")
@CUTS
@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_a_damaged_checkpoint_costs_one_generation(
    tilts: Path, solve: Solve, tmp_path: Path, cut: dict[str, Any], damage: str
) -> None:
    keys = {"K": 5, "rows_per_call": 2, "denoiser": "smoother:smooth", **KEYS, **cut}
    expected, _ = solve(tilts, **KEYS, **cut)
    out = tmp_path / "out.zarr"

    def stop(event: Event) -> None:
        if isinstance(event, SaveEvent) and event.iteration >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reconstruct(tilts, out, keys, watched(stop, workers=1))
    record = RunRecord(out)
    unit = max(
        record.names("commits"),
        key=lambda u: record.read_json(f"commits/{u}")["generations"][0]["iteration"],
    )
    newest, before = record.read_json(f"commits/{unit}")["generations"]
    column, block = max(newest["digests"]).split("/")
    n = newest["iteration"]
    chunk = out / f"ddgm_dist/generations/{n}/c/{column}/0/{block}/0"
    if damage == "remove":
        chunk.unlink()
    else:
        data = bytearray(chunk.read_bytes())
        data[100] ^= 4
        chunk.write_bytes(data)
    engine = watched(workers=2)
    result = reconstruct(tilts, out, keys, engine)
    np.testing.assert_array_equal(result.to_dask().compute(), expected)
    damaged = [f for f in engine.faults() if f.kind == "checkpoint-damaged"]
    assert damaged
    assert f"iteration {n}, chunk {column}/{block}" in damaged[0].detail
    # The unit went on from the generation before, not from the start.
    mine = [e.iteration for e in engine.seen if isinstance(e, StepEvent) and e.tile in _of(unit, e)]
    assert min(mine) == before["iteration"]


def _of(unit: str, event: StepEvent) -> set[str]:
    """The event's tile, if it lies in the unit's first row of tiles."""
    return {event.tile} if event.tile[:7] == unit[:7] else set()


@pytest.mark.usefixtures("cluster")
@CUTS
def test_running_out_of_memory_once_is_survived(
    tilts: Path, solve: Solve, plant: Callable[[str], Path], cut: dict[str, Any]
) -> None:
    expected, _ = solve(tilts, **KEYS, **cut)
    plant("memory")
    engine = watched(workers=2)
    volume, _ = solve(tilts, engine, **KEYS, **cut, denoiser="faulty:faulty")
    np.testing.assert_array_equal(volume, expected)
    assert [(f.kind, f.action) for f in engine.faults()] == [("out-of-memory", "do less at a time")]


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("name", ["memory", "plain-memory"])
def test_running_out_of_memory_again_ends_with_advice(
    tilts: Path, solve: Solve, plant: Callable[[str], Path], name: str
) -> None:
    for i in range(20):
        plant(f"{name}{i}")
    with pytest.raises(DdgmError, match=r"out-of-memory.*more memory or start fewer") as caught:
        solve(tilts, watched(workers=1), **KEYS, denoiser="faulty:faulty")
    assert "run the same command again" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("cluster")
@CUTS
def test_a_full_object_store_is_survived(
    tilts: Path, solve: Solve, plant: Callable[[str], Path], cut: dict[str, Any]
) -> None:
    """Pieces go through Zarr from then on; an uncoupled tile, which has none, is done again."""
    expected, _ = solve(tilts, **KEYS, **cut)
    plant("full")
    engine = watched(workers=1)
    keys = {**KEYS, "checkpoint_every": 1e6}
    volume, result = solve(tilts, engine, **keys, **cut, denoiser="faulty:faulty")
    np.testing.assert_array_equal(volume, expected)
    (fault,) = engine.faults()
    assert (fault.kind, fault.action) == ("store-full", "pass pieces through the store")
    saved = {(e.tile, e.iteration) for e in engine.seen if isinstance(e, SaveEvent)}
    every = {(tile.name, n) for tile in result.plan.tiles for n in range(1, KEYS["N"])}
    assert saved == (every if cut else set())


@pytest.mark.usefixtures("cluster")
def test_a_damaged_piece_of_the_input_is_told_with_its_place(
    make_tilts: MakeTilts, tmp_path: Path, faults: Path
) -> None:
    """Found by a worker, after the run has begun; what was finished before is kept."""
    import shutil

    tilts = tmp_path / "tilts.zarr"
    shutil.copytree(make_tilts(rows=64), tilts)

    def damage(event: Event) -> None:
        if isinstance(event, Receipt):
            for path in sorted((tilts / "projections/c").rglob("*")):
                if path.is_file():
                    data = bytearray(path.read_bytes())
                    data[len(data) // 2] ^= 255
                    path.write_bytes(data)

    keys = {"N": 2, "K": 5, "rows_per_call": 2, "tile_rows": 16, "denoiser": "smoother:smooth"}
    with pytest.raises(StorageError, match=r"reading .*slice\(.*projections") as caught:
        reconstruct(tilts, tmp_path / "out.zarr", keys, watched(damage, workers=1))
    assert "\n" not in str(caught.value)
    assert RunRecord(tmp_path / "out.zarr").receipts()


@CUTS
def test_workers_join_and_leave_a_running_job(
    make_tilts: MakeTilts,
    solve: Solve,
    cluster: Any,
    plant: Callable[[str], Path],
    cut: dict[str, Any],
) -> None:
    """A node joins: its workers get tiles. It is removed at once: the others finish."""
    tilts = make_tilts(field=144, rows=24)
    keys = {**KEYS, "N": 9}
    expected, _ = solve(tilts, **keys, **cut)
    slow = plant("slow")
    node: Any = None
    newcomers: set[str] = set()

    def watch(event: Event) -> None:
        nonlocal node
        if not isinstance(event, StepEvent):
            return
        if node is None:
            node = cluster.add_node(num_cpus=2, object_store_memory=80 * 2**20)
        elif event.worker not in ("worker-0", "worker-1") and not newcomers:
            newcomers.add(event.worker)
            cluster.remove_node(node, allow_graceful=False)
            slow.unlink()

    engine = watched(watch, workers=None)
    volume, _ = solve(tilts, engine, **keys, **cut, denoiser="faulty:faulty")
    np.testing.assert_array_equal(volume, expected)
    assert newcomers
    assert "worker-lost" in {f.kind for f in engine.faults()}
