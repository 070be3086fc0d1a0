"""Faults through the real engine: what it does, what it reports, and that no bit changes."""

import threading
import time
from collections.abc import Callable
from itertools import product, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ddgm_dist.engine.coupled import GroupWork
from ddgm_dist.engine.faults import Limits
from ddgm_dist.engine.work import TileWork
from ddgm_dist.errors import DdgmError, InputError, StorageError
from ddgm_dist.records.checkpoint import Generation
from ddgm_dist.runs.reconstruct import reconstruct
from ddgm_dist.runs.result import Result
from ddgm_dist.tile.events import Event, FaultEvent, PoolEvent, Receipt, SaveEvent, StepEvent
from ddgm_dist.tile.job import Job
from tests.ray_cluster import tried_again
from tests.ray_engine.inline import Clock, set_clock

Solve = Callable[..., tuple[np.ndarray, Result]]
MakeTilts = Callable[..., Path]
Watched = Callable[..., Any]

COUPLED: dict[str, Any] = {"tile_columns": 48, "margin": 24}
CUTS = pytest.mark.parametrize("cut", [{}, COUPLED], ids=["free", "coupled"])
# Of a run in which something is to go wrong: long enough to be met by it.
KEYS: dict[str, Any] = {"N": 6, "tile_rows": 4, "checkpoint_every": 0}
OLD = ("worker-0", "worker-1")  # those a run begins with

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


def test_every_error_is_the_fault_that_it_means() -> None:
    import torch
    from ray import exceptions as errors

    from ddgm_dist.ray_engine.errors import fault_of
    from ddgm_dist.records.checkpoint import CheckpointDamagedError
    from ddgm_dist.tile.solver import StaleStepError

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


# The message of Ray 2.60, without most of its 40 lines.
KILLED = """1 worker(s) were killed due to the node running low on memory. Memory on the node \
(IP: 10.0.0.2, ID: 19462fd1) was 22.60GB used / 23.54GB limit (0.960063)
OOM kill reason: Memory usage 24266948608B exceeded threshold of 24012260761B (95.0% of 25276063744B \
limit)
Ray killed 1 worker(s) based on the killing policy
Top 10 memory users: PID	MEM(GB)	COMMAND
8939	0.59	ray::Worker
Refer to the documentation on how to address the out of memory issue: https://docs.ray.io/. Consider \
provisioning more memory on this node or reducing task parallelism by requesting more CPUs per task.
"""


def test_what_the_memory_monitor_has_killed_ran_out_of_memory() -> None:
    """Whether Ray raises it as such (2.60 does) or as a cause of death."""
    from ray import exceptions as errors
    from ray.core.generated.common_pb2 import ActorDiedErrorContext

    from ddgm_dist.ray_engine.errors import fault_of, last_line

    context = ActorDiedErrorContext(error_message=KILLED, actor_id=b"a" * 16, class_name="Worker")
    for error in (errors.OutOfMemoryError(KILLED), errors.ActorDiedError(context)):
        assert fault_of(error) == "out-of-memory"
        assert "running low on memory" in last_line(error)
        assert last_line(error).endswith("was 22.60GB used / 23.54GB limit (0.960063)")
    context = ActorDiedErrorContext(error_message="killed", actor_id=b"a" * 16, class_name="Worker")
    assert fault_of(errors.ActorDiedError(context)) == "worker-lost"


@pytest.fixture
def tilts(make_tilts: MakeTilts) -> Path:
    return make_tilts(field=144)


@pytest.mark.usefixtures("two_cpus")
@pytest.mark.parametrize(("kind", "cut"), [("kill", {}), ("hang", {}), ("stop", COUPLED)])
def test_a_lost_worker_is_replaced(
    tilts: Path,
    solve: Solve,
    watched: Watched,
    plant: Callable[[str], Path],
    kind: str,
    cut: dict[str, Any],
) -> None:
    """One that still answers is given three times as long as one that does not."""
    expected, _ = solve(tilts, **KEYS, **cut)
    fault = plant(kind)
    # Above twenty times the longest step of a busy machine the engine waits for longer.
    engine = watched(workers=2, timeouts={"stall": 2.0, "probe": 1.0})
    volume, _ = solve(tilts, engine, **KEYS, **cut, denoiser="faulty:faulty")
    assert not fault.exists()
    np.testing.assert_array_equal(volume, expected)
    expected_kind = "worker-lost" if kind == "kill" else "stalled"
    # Ray takes five seconds to end a stopped process, whose locks on files may stall another.
    assert {(f.kind, f.action) for f in engine.faults()} == {(expected_kind, "replace the worker")}
    assert len(engine.faults()) <= 2


class Unavailable:
    """In the place of `ray` in the driver's loop: an answer is lost, or that of a running call."""

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
        if self.failed or type(answer).__name__ == "Heartbeat":
            return answer
        self.failed = True
        raise ray.exceptions.ActorUnavailableError("planted", b"a" * 16)


@pytest.mark.usefixtures("two_cpus")
@pytest.mark.parametrize(
    ("running", "cut"),
    [(False, COUPLED), (True, {}), (True, COUPLED)],
    ids=["answered-coupled", "running-free", "running-coupled"],
)
def test_a_worker_that_is_unavailable_is_asked_again(
    tilts: Path,
    solve: Solve,
    watched: Watched,
    plant: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    cut: dict[str, Any],
    running: bool,
) -> None:
    """Whether the call's answer is lost, or it is still running when it is asked for again."""
    expected, _ = solve(tilts, **KEYS, **cut)
    pause = plant("pause")

    timers: list[threading.Timer] = []

    def go_on(event: Event) -> None:
        if isinstance(event, FaultEvent):
            # The same worker is asked again after a second.
            timers.append(threading.Timer(2.0, lambda: pause.unlink(missing_ok=True)))
            timers[-1].start()

    if not running:
        pause.unlink()
    monkeypatch.setattr("ddgm_dist.ray_engine.calls.ray", Unavailable(running=running))
    engine = watched(go_on if running else None, workers=2)
    try:
        volume, result = solve(tilts, engine, **KEYS, **cut, denoiser="faulty:faulty")
    finally:
        for timer in timers:
            timer.cancel()
            timer.join()
    np.testing.assert_array_equal(volume, expected)
    assert [(f.kind, f.action) for f in engine.faults()] == [
        ("unavailable", "ask the same worker again")
    ]
    done = [(e.tile, e.iteration) for e in engine.seen if isinstance(e, StepEvent)]
    assert sorted(done) == sorted(product((t.name for t in result.plan.tiles), range(KEYS["N"])))


@pytest.mark.usefixtures("two_cpus")
def test_running_out_of_memory_once_is_survived(
    tilts: Path, solve: Solve, watched: Watched, plant: Callable[[str], Path]
) -> None:
    expected, _ = solve(tilts, **KEYS, **COUPLED)
    plant("memory")
    engine = watched(workers=2)
    volume, _ = solve(tilts, engine, **KEYS, **COUPLED, denoiser="faulty:faulty")
    np.testing.assert_array_equal(volume, expected)
    (fault,) = engine.faults()
    assert (fault.kind, fault.action) == ("out-of-memory", "one call per worker at a time")


@pytest.mark.usefixtures("two_cpus")
def test_running_out_of_memory_again_ends_with_advice(
    tilts: Path, solve: Solve, watched: Watched, plant: Callable[[str], Path], tmp_path: Path
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


@pytest.mark.usefixtures("two_cpus")
@CUTS
def test_a_full_object_store_is_survived(
    tilts: Path, solve: Solve, watched: Watched, plant: Callable[[str], Path], cut: dict[str, Any]
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
    watched: Watched,
    two_cpus: Any,
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
    removed: list[float] = []

    def watch(event: Event) -> None:
        """The node joins as soon as work has begun, and goes in the midst of its first tile.

        All tiles wait until the loss is reported: the node's processes outlive it by a moment, in
        which they could end their tiles.
        """
        nonlocal node
        if isinstance(event, PoolEvent) and event.workers == 2 and node is None:
            memory = 80 * 2**20
            node = tried_again(two_cpus.add_node, num_cpus=2, object_store_memory=memory)
        if isinstance(event, PoolEvent) and event.workers == 4 and not newcomers:
            pause.unlink(missing_ok=True)
        if isinstance(event, StepEvent) and event.worker not in OLD and not newcomers:
            newcomers.add(event.worker)
            pause.touch()
            removed.append(time.monotonic())
            two_cpus.remove_node(node, allow_graceful=False)
            slow.unlink()
        if lost or (removed and time.monotonic() - removed[0] > 300):  # the test fails then
            pause.unlink(missing_ok=True)

    for kind in (GroupWork, TileWork):
        monkeypatch.setattr(kind, "lost", noted(kind.lost, lost))
    engine = watched(watch, workers=None)
    volume, _ = solve(tilts, engine, **KEYS, **cut, denoiser="faulty:faulty")
    np.testing.assert_array_equal(volume, expected)
    assert newcomers
    gone = {f.worker for f in engine.faults() if f.kind == "worker-lost"}
    assert gone == {"worker-2", "worker-3"}
    assert lost == [gone]  # together, so that no group goes back twice
    # The others did the rest.
    last = [event.worker for event in engine.seen if isinstance(event, Receipt)]
    assert last[-1] in OLD


@pytest.mark.parametrize("failures", [2, 3])
def test_a_commit_that_fails_is_tried_again(
    begin: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """By the driver, as often as a worker's writes are."""
    from ddgm_dist.ray_engine.dispatcher import Dispatcher
    from ddgm_dist.ray_engine.watch import Timeouts

    seen: list[Any] = []
    left = repeat(StorageError("no room"), failures)
    committed: list[tuple[str, Generation]] = []

    def commit(unit: str, generation: Generation) -> None:
        for error in left:
            raise error
        committed.append((unit, generation))

    pool: Any = SimpleNamespace(ready=[])
    work: Any = SimpleNamespace(progress=lambda: None)
    history: Any = SimpleNamespace(commit=commit)
    set_clock(monkeypatch, Clock())
    dispatcher = Dispatcher(begin(), pool, [work], history, seen.append, Limits(), Timeouts())
    generation = Generation(1, {})
    if failures > 2:
        with pytest.raises(StorageError, match="no room"):
            dispatcher._write_commit("unit", generation)
    else:
        dispatcher._write_commit("unit", generation)
        assert committed == [("unit", generation)]
    faults = [event.kind for event in seen if isinstance(event, FaultEvent)]
    assert faults == ["storage"] * failures
