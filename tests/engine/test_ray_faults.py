"""Faults through the real engine: what it does, what it tells, and that no bit changes."""

import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.engine.base import (
    Event,
    FaultEvent,
    Job,
    PoolEvent,
    Receipt,
    Report,
    SaveEvent,
    StepEvent,
)
from ddgm_dist.engine.coupled import GroupWork
from ddgm_dist.engine.work import TileWork
from ddgm_dist.errors import DdgmError, InputError, StorageError
from ddgm_dist.reconstruct import Result, reconstruct
from ddgm_dist.status import read_status
from ddgm_dist.storage.run_record import RunRecord

Solve = Callable[..., tuple[np.ndarray, Result]]
MakeTilts = Callable[..., Path]

COUPLED: dict[str, Any] = {"tile_columns": 48, "margin": 24}
CUTS = pytest.mark.parametrize("cut", [{}, COUPLED], ids=["free", "coupled"])
# Of a run in which something is to go wrong: long enough to be met by it.
KEYS: dict[str, Any] = {"N": 6, "tile_rows": 4, "checkpoint_every": 0}
OLD = ("worker-0", "worker-1")  # those a run begins with

# A denoiser that gives what `smooth` gives, and fails at it in as many ways as there are files.
FAULTY = '''
import os
import signal
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
    while (HERE / "pause").exists() or ((HERE / "late").exists() and sigma < 0.15):
        time.sleep(0.02)
    if (HERE / "slow").exists():
        time.sleep(0.2)
    if calls > 2:
        if _one_fault("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if _one_fault("hang"):
            time.sleep(1e6)
        if _one_fault("stop"):
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(1)
        if _one_fault("memory"):
            import ray

            raise ray.exceptions.OutOfMemoryError("planted")
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


def test_every_error_is_the_fault_that_it_means() -> None:
    import torch
    from ray import exceptions as errors

    from ddgm_dist.engine.ray_faults import fault_of
    from ddgm_dist.engine.tile import StaleStepError
    from ddgm_dist.storage.checkpoint import CheckpointDamagedError

    raised = {
        ValueError("ours"): "bug",
        InputError("a", 1, "is wrong"): "input",
        StorageError("no"): "storage",
        StaleStepError("no"): "stale",
        CheckpointDamagedError(3, "0/0", "no"): "checkpoint-damaged",
        MemoryError(): "out-of-memory",
        torch.cuda.OutOfMemoryError(): "out-of-memory",
        errors.OutOfMemoryError("no"): "out-of-memory",
        errors.ObjectStoreFullError("no"): "store-full",
        errors.OutOfDiskError("no"): "store-full",
        errors.ObjectLostError("0" * 56, None, ""): "object-lost",
        errors.ActorUnavailableError("of a piece", b"a" * 16): "object-lost",
    }
    for error, fault in raised.items():
        assert fault_of(errors.RayTaskError("step", "", error)) == fault, error
    assert fault_of(errors.ActorUnavailableError("no", b"a" * 16)) == "unavailable"
    assert fault_of(errors.ActorDiedError()) == "worker-lost"
    assert fault_of(errors.OutOfMemoryError("no")) == "out-of-memory"


@pytest.fixture(scope="module")
def faults(denoisers: Path) -> Path:
    """Folder in which a file is a fault that is yet to happen."""
    (denoisers / "faulty.py").write_text(FAULTY)
    return denoisers


@pytest.fixture(scope="module")
def cluster(faults: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A node of two CPUs, to which this process is connected."""
    import ray
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_health_check_period_ms", "500")
        patch.setenv("RAY_health_check_failure_threshold", "4")
        nodes = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 2,
                "object_store_memory": 80 * 2**20,
                "include_dashboard": False,
            },
        )
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(nodes.address, configure_logging=False, log_to_driver=False)
            signal.signal(signal.SIGTERM, handler)
            yield nodes
        finally:
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
@pytest.mark.parametrize(("kind", "cut"), [("kill", {}), ("hang", {}), ("stop", COUPLED)])
def test_a_lost_worker_is_replaced(
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
    told = "worker-lost" if kind == "kill" else "stalled"
    # Ray takes five seconds to end a stopped process, whose locks on files may stall another.
    assert {(f.kind, f.action) for f in engine.faults()} == {(told, "replace the worker")}
    assert len(engine.faults()) <= 2


class Unavailable:
    """In the place of `ray` in the driver's loop: an answer is lost, or a call that goes on."""

    def __init__(self, *, running: bool) -> None:
        self.running, self.failed = running, False

    def __getattr__(self, name: str) -> Any:
        import ray

        return getattr(ray, name)

    def wait(self, refs: list[Any], **options: Any) -> tuple[list[Any], list[Any]]:
        import ray

        if self.running and not self.failed and "fetch_local" in options:
            return refs[:1], refs[1:]
        return ray.wait(refs, **options)

    def get(self, ref: Any) -> Any:
        import ray

        answer = None if self.running and not self.failed else ray.get(ref)
        if self.failed or type(answer).__name__ == "Pulse":
            return answer
        self.failed = True
        raise ray.exceptions.ActorUnavailableError("planted", b"a" * 16)


@pytest.mark.usefixtures("cluster")
@CUTS
@pytest.mark.parametrize("running", [False, True], ids=["answered", "running"])
def test_a_worker_that_is_unavailable_is_asked_again(
    tilts: Path,
    solve: Solve,
    plant: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    cut: dict[str, Any],
    running: bool,
) -> None:
    """Whether the call has been answered in vain, or still goes on when it is asked for again."""
    expected, _ = solve(tilts, **KEYS, **cut)
    pause = plant("pause")

    def go_on(event: Event) -> None:
        if isinstance(event, FaultEvent):
            # The call is asked for again after a second.
            threading.Timer(2.0 if running else 0.0, pause.unlink).start()

    if not running:
        pause.unlink()
    monkeypatch.setattr("ddgm_dist.engine.ray_dispatch.ray", Unavailable(running=running))
    engine = watched(go_on if running else None, workers=2)
    volume, result = solve(tilts, engine, **KEYS, **cut, denoiser="faulty:faulty")
    np.testing.assert_array_equal(volume, expected)
    assert [(f.kind, f.action) for f in engine.faults()] == [("unavailable", "ask again")]
    done = [(e.tile, e.iteration) for e in engine.seen if isinstance(e, StepEvent)]
    assert sorted(done) == sorted(product((t.name for t in result.plan.tiles), range(KEYS["N"])))


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("cut", "damage"), [({}, "remove"), (COUPLED, "flip")])
def test_a_damaged_checkpoint_costs_one_generation(
    tilts: Path,
    solve: Solve,
    plant: Callable[[str], Path],
    tmp_path: Path,
    cut: dict[str, Any],
    damage: str,
) -> None:
    keys = {"K": 5, "rows_per_call": 2, **KEYS, **cut, "denoiser": "faulty:faulty"}
    expected, _ = solve(tilts, **KEYS, **cut)
    out = tmp_path / "out.zarr"
    late = plant("late")  # no tile ends its last iteration

    def stop(event: Event) -> None:
        if isinstance(event, SaveEvent) and event.iteration >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reconstruct(tilts, out, keys, watched(stop, workers=1))
    late.unlink()
    record = RunRecord(out)
    unit = max(
        record.names("commits"),
        key=lambda u: record.read_json(f"commits/{u}")["generations"][0]["iteration"],
    )
    newest, before = record.read_json(f"commits/{unit}")["generations"]
    column, block = max(newest["digests"]).split("/")
    n = newest["iteration"]
    ruin(out / f"ddgm_dist/generations/{n}/c/{column}/0/{block}/0", damage)
    engine = watched(workers=2)
    result = reconstruct(tilts, out, keys, engine)
    np.testing.assert_array_equal(result.to_dask().compute(), expected)
    damaged = [f for f in engine.faults() if f.kind == "checkpoint-damaged"]
    assert damaged
    assert f"iteration {n}, chunk {column}/{block}" in damaged[0].detail
    # The unit went on from the generation before, not from the start.
    rows = unit[:7]  # unit and tiles begin with their first row
    assert min(steps(engine, rows)) == before["iteration"] > 0


def ruin(chunk: Path, damage: str) -> None:
    """Flip a byte of a file, or remove it."""
    if damage == "remove":
        chunk.unlink()
    else:
        data = bytearray(chunk.read_bytes())
        data[len(data) // 2] ^= 4
        chunk.write_bytes(data)


def steps(engine: Any, rows: str) -> list[int]:
    """Iterations of the tiles whose names begin so, as they were done."""
    found = [event for event in engine.seen if isinstance(event, StepEvent)]
    return [event.iteration for event in found if event.tile.startswith(rows)]


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
def test_running_out_of_memory_again_ends_with_advice(
    tilts: Path, solve: Solve, plant: Callable[[str], Path], tmp_path: Path
) -> None:
    keys = {"K": 5, "rows_per_call": 2, **KEYS, "denoiser": "faulty:faulty"}
    planted = [plant(f"memory{i}") for i in range(20)]
    engine = watched(workers=1)
    with pytest.raises(DdgmError, match=r"out-of-memory.*more memory or start fewer") as caught:
        reconstruct(tilts, tmp_path / "out.zarr", keys, engine)
    assert "run the same command again" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [f.action for f in engine.faults()][-1] == "fail"
    for path in planted:
        path.unlink(missing_ok=True)
    result = reconstruct(tilts, tmp_path / "out.zarr", keys, "local")
    np.testing.assert_array_equal(result.to_dask().compute(), solve(tilts, **KEYS)[0])


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
    every = {(tile.name, n) for tile in result.plan.tiles for n in range(1, KEYS["N"] + 1)}
    assert saved == (every if cut else set())


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_a_damaged_piece_of_the_input_is_told_with_its_place(
    make_tilts: MakeTilts, solve: Solve, tmp_path: Path, damage: str
) -> None:
    """Found by a worker, after the run has begun; what was finished before is kept."""
    whole, tilts, out = make_tilts(rows=64), tmp_path / "tilts.zarr", tmp_path / "out.zarr"
    shutil.copytree(whole, tilts)
    first: list[str] = []

    def harm(event: Event) -> None:
        if isinstance(event, Receipt) and not first:
            first.append(event.tile)
            for row in range(2, 8):
                ruin(tilts / f"projections/c/0/{row}/0", damage)

    keys = {"N": 2, "K": 5, "rows_per_call": 2, "tile_rows": 8, "denoiser": "smoother:smooth"}
    state = "missing" if damage == "remove" else "unreadable"
    place = (
        rf"chunk \(0, (\d), 0\) of .*tilts\.zarr/projections is {state}: "
        r"tilts 0 to 10, rows (\d+) to (\d+), columns 0 to 99;"
    )
    with pytest.raises(StorageError, match=place) as caught:
        reconstruct(tilts, out, keys, watched(harm, workers=1))
    assert "\n" not in str(caught.value)
    found = re.search(place, str(caught.value))
    assert found is not None
    row = int(found[1])
    assert (int(found[2]), int(found[3])) == (8 * row, 8 * row + 7)
    status = read_status(out)
    assert (status.state, status.tiles) == ("interrupted", 8)
    assert 1 <= status.tiles_done < 8
    # With a good copy in its place the run goes on, and does nothing twice.
    shutil.rmtree(tilts)
    shutil.copytree(whole, tilts)
    kept = RunRecord(out).receipts()
    assert first[0] in kept
    result = reconstruct(tilts, out, keys, "local")
    np.testing.assert_array_equal(result.to_dask().compute(), solve(whole, N=2, tile_rows=8)[0])
    assert {name: RunRecord(out).receipts()[name] for name in kept} == kept


def noted(method: Callable[..., None], calls: list[set[str]]) -> Callable[..., None]:
    """The method, whose arguments are noted."""

    def call(self: Any, names: list[str]) -> None:
        calls.append(set(names))
        method(self, names)

    return call


@CUTS
def test_workers_join_and_leave_a_running_job(
    make_tilts: MakeTilts,
    monkeypatch: pytest.MonkeyPatch,
    solve: Solve,
    cluster: Any,
    plant: Callable[[str], Path],
    cut: dict[str, Any],
) -> None:
    """A node joins: its workers get tiles. It is removed at once: the others finish."""
    tilts = make_tilts(field=144, rows=32)
    expected, _ = solve(tilts, **KEYS, **cut)
    slow, pause = plant("slow"), plant("pause")
    node: Any = None
    newcomers: set[str] = set()
    lost: list[set[str]] = []

    def watch(event: Event) -> None:
        """The node joins as soon as work has begun, and goes in the midst of its first tile."""
        nonlocal node
        if isinstance(event, PoolEvent) and event.workers == 2 and node is None:
            node = cluster.add_node(num_cpus=2, object_store_memory=80 * 2**20)
        if isinstance(event, PoolEvent) and event.workers == 4:
            pause.unlink(missing_ok=True)
        if isinstance(event, StepEvent) and event.worker not in OLD and not newcomers:
            newcomers.add(event.worker)
            cluster.remove_node(node, allow_graceful=False)
            slow.unlink()

    for kind in (GroupWork, TileWork):
        monkeypatch.setattr(kind, "lost", noted(kind.lost, lost))
    engine = watched(watch, workers=None)
    volume, _ = solve(tilts, engine, **KEYS, **cut, denoiser="faulty:faulty")
    np.testing.assert_array_equal(volume, expected)
    assert newcomers
    told = {f.worker for f in engine.faults() if f.kind == "worker-lost"}
    assert told == {"worker-2", "worker-3"}
    assert lost == [told]  # together, so that no group goes back twice
    # The others did the rest.
    last = [event.worker for event in engine.seen if isinstance(event, Receipt)]
    assert last[-1] in OLD
