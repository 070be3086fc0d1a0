"""Workers that come late and are unfit: refused alone, reported once, and never in a loop."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddgm_dist.errors import DdgmError
from ddgm_dist.runs.result import Result
from ddgm_dist.tile.events import Event, FaultEvent, PoolEvent, Receipt
from tests.ray_cluster import tried_again

Solve = Callable[..., tuple[np.ndarray, Result]]
MakeTilts = Callable[..., Path]
Watched = Callable[..., Any]

COUPLED: dict[str, Any] = {"tile_columns": 48, "margin": 24}
KEYS: dict[str, Any] = {"N": 6, "tile_rows": 4, "checkpoint_every": 0}
OLD = ("worker-0", "worker-1")

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


class Late:
    """Watches a run: a node joins when work has begun, and goes when the run is over.

    Parameters
    ----------
    cluster, pause
        Where; the file that holds all tiles up for as long as it is there.
    seen
        Whether the tiles may continue.
    patch
        Of the environment, while the node starts.
    """

    def __init__(
        self,
        cluster: Any,
        pause: Path,
        seen: Callable[["Late"], bool],
        patch: dict[str, str] | None = None,
    ) -> None:
        self.cluster, self.pause, self.seen, self.patch = cluster, pause, seen, patch or {}
        self.node: Any = None
        self.faults: list[FaultEvent] = []
        self.after = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, FaultEvent):
            self.faults.append(event)
        if isinstance(event, PoolEvent) and event.workers == 2 and self.node is None:
            with pytest.MonkeyPatch.context() as patch:
                for name, value in self.patch.items():
                    patch.setenv(name, value)
                memory = 80 * 2**20
                self.node = tried_again(
                    self.cluster.add_node, num_cpus=2, object_store_memory=memory
                )
        if isinstance(event, PoolEvent) and self.seen(self):
            self.after += 1
            # For a while, so that it would show if more and more were started.
            if self.after > 20:
                self.pause.unlink(missing_ok=True)

    def details(self, kind: str) -> list[str]:
        return [f.detail for f in self.faults if f.kind == kind]

    def end(self) -> None:
        """Remove the node; and wait, or the next test's workers are put there and lost with it."""
        import ray

        if self.node is None:
            return
        self.cluster.remove_node(self.node, allow_graceful=False)
        for _ in range(3000):
            if sum(node["Alive"] for node in ray.nodes()) == 1:
                return
            time.sleep(0.1)
        raise AssertionError("the node is still there")


@pytest.fixture
def late(two_cpus: Any, plant: Callable[[str], Path]) -> Iterator[Callable[..., Late]]:
    made: list[Late] = []

    def make(seen: Callable[[Late], bool], patch: dict[str, str] | None = None) -> Late:
        made.append(Late(two_cpus, plant("pause"), seen, patch))
        return made[0]

    yield make
    for one in made:
        one.end()


def other_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers on any node but the head have another torch."""
    import ray

    from ddgm_dist.ray_engine import pool as ray_pool

    head = ray.get_runtime_context().get_node_id()
    unfit = ray_pool._unfit

    def planted(worker: Any, handshake: Any) -> Any:
        if handshake.node != head:
            handshake.versions["torch"] = "0.1"
        return unfit(worker, handshake)

    monkeypatch.setattr(ray_pool, "_unfit", planted)


@pytest.mark.parametrize(("workers", "cut"), [(None, COUPLED), (3, {})], ids=["coupled", "three"])
def test_late_workers_of_other_versions_are_refused_and_the_others_go_on(
    make_tilts: MakeTilts,
    solve: Solve,
    watched: Watched,
    late: Callable[..., Late],
    monkeypatch: pytest.MonkeyPatch,
    cut: dict[str, Any],
    workers: int | None,
) -> None:
    tilts = make_tilts(field=144, rows=32)
    expected, _ = solve(tilts, **KEYS, **cut)
    other_versions(monkeypatch)
    held, refused = list[int](), set[str]()

    def seen(watch: Late) -> bool:
        """Both CPUs of the node are held, or were not in half a minute after the first was."""
        times = [f.time for f in watch.faults if f.kind == "other-versions"]
        if times:
            held.append(engine.dispatcher.pool.holding)
            refused.update(r.worker.name for r in engine.dispatcher.pool.refusals)
        return 2 in held or (bool(times) and time.time() - times[0] > 30)

    watch = late(seen)
    # A third worker that does not fit the head's CPUs waits for the node; on it, it is refused.
    engine = watched(watch, workers=workers)
    if workers:
        monkeypatch.setattr("ddgm_dist.ray_engine.pool.shares", lambda *_: _shares(workers))
    volume, _ = solve(tilts, engine, **KEYS, **cut, denoiser="faulty:faulty")
    np.testing.assert_array_equal(volume, expected)
    (detail,) = watch.details("other-versions")  # not once for each of its two workers
    assert "torch 0.1 (here " in detail
    assert [f.action for f in watch.faults] == ["continue without it"]
    assert not refused & {e.worker for e in engine.seen if isinstance(e, Receipt)}
    assert held[-1] == len(refused) == 2  # one for each CPU of the node; not a loop


def _shares(workers: int) -> Any:
    from ddgm_dist.ray_engine.shares import Shares

    return Shares(workers, 1, 1.0, 0.0, 0)


def test_late_workers_that_cannot_start_are_refused_and_retried_now_and_then(
    make_tilts: MakeTilts,
    solve: Solve,
    watched: Watched,
    late: Callable[..., Late],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The denoiser is not on their node, until it is."""
    monkeypatch.setattr("ddgm_dist.ray_engine.pool._RETRY_SECONDS", (1.0, 2.0))
    tilts = make_tilts(field=144, rows=32)
    expected, _ = solve(tilts, **KEYS)
    (tmp_path / "faulty.py").write_text("raise ImportError('planted')\n")
    before = os.environ["PYTHONPATH"]
    ready: list[int] = []

    def seen(watch: Late) -> bool:
        if watch.details("start-failed") and watch.after > 10:
            (tmp_path / "faulty.py").unlink(missing_ok=True)
        return bool(watch.details("start-failed"))

    watch = late(seen, {"PYTHONPATH": f"{tmp_path}:{before}"})
    pause = watch.pause

    def both(event: Event) -> None:
        watch(event)
        if isinstance(event, PoolEvent):
            ready.append(event.workers)
            if event.workers < 4:
                pause.touch()  # until those on the node have been tried again
            else:
                pause.unlink(missing_ok=True)

    engine = watched(both, workers=None)
    volume, _ = solve(tilts, engine, **KEYS, denoiser="faulty:faulty")
    np.testing.assert_array_equal(volume, expected)
    (detail,) = watch.details("start-failed")
    assert "planted" in detail
    assert max(ready) == 4
    assert engine.dispatcher.pool._started <= 2 + 2 * 8  # by pauses, not as fast as it goes


@pytest.mark.usefixtures("two_cpus")
def test_a_run_whose_fit_workers_are_gone_ends_and_names_the_refused(
    make_tilts: MakeTilts,
    solve: Solve,
    watched: Watched,
    plant: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first worker is fit, and is killed; those in its place are not."""
    from ddgm_dist.ray_engine import pool as ray_pool

    unfit = ray_pool._unfit

    def planted(worker: Any, handshake: Any) -> Any:
        if worker.name != "worker-0":
            handshake.versions["torch"] = "0.1"
        return unfit(worker, handshake)

    monkeypatch.setattr(ray_pool, "_unfit", planted)
    plant("kill")
    engine = watched(
        workers=1,
        timeouts={"start": 60.0},  # more than a busy machine takes to start one
    )
    with pytest.raises(
        DdgmError, match=r"no worker has started .*torch 0\.1 .* to resume"
    ) as caught:
        solve(make_tilts(field=144), engine, **KEYS, denoiser="faulty:faulty")
    assert "\n" not in str(caught.value)


def test_another_kind_of_processor_is_reported_once_and_works(
    make_tilts: MakeTilts, solve: Solve, watched: Watched, late: Callable[..., Late]
) -> None:
    """ATen takes other instructions where a variable says so: results differ by rounding."""
    tilts = make_tilts(field=144, rows=32)
    expected, _ = solve(tilts, **KEYS)
    watch = late(
        lambda watch: bool(watch.details("mixed-processors")), {"ATEN_CPU_CAPABILITY": "default"}
    )
    engine = watched(watch, workers=None)
    volume, _ = solve(tilts, engine, **KEYS, denoiser="faulty:faulty")
    np.testing.assert_allclose(volume, expected, rtol=1e-3)
    (detail,) = watch.details("mixed-processors")
    assert "DEFAULT on node" in detail
    assert "not bit for bit" in detail
    assert any(e.worker not in OLD for e in engine.seen if isinstance(e, Receipt))
